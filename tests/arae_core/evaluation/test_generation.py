"""The figures rank samples as a reader would, and stay finite whatever a model writes."""

import math
import random

import numpy as np
import pytest

from arae_core.evaluation import generation
from arae_core.evaluation.count_language_model import CountLanguageModel, FlatRows, flat_rows
from arae_core.evaluation.generation import SELECTION, SentenceScorer, better

VOCABULARY = 37


def sentences(count: int, seed: int) -> list[list[int]]:
    """From a small chain: each token has five followers, a sentence ends with chance 1/6."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        row = [rng.randrange(5)]
        while rng.random() > 1 / 6:
            row.append((7 * row[-1] + rng.randrange(5) ** 2) % VOCABULARY)
        rows.append(row)
    return rows


TRAIN, VALIDATION, SAMPLES = sentences(997, seed=1), sentences(211, seed=2), sentences(307, seed=3)
SCORER = SentenceScorer(TRAIN, VALIDATION, VOCABULARY)


def test_the_figures_are_what_they_say() -> None:
    score = SCORER.score(SAMPLES)
    forward = CountLanguageModel(TRAIN, VOCABULARY).perplexity(SAMPLES)
    reverse = CountLanguageModel(SAMPLES, VOCABULARY, continuation=False).perplexity(VALIDATION)
    ordinary = CountLanguageModel(TRAIN, VOCABULARY).perplexity(VALIDATION)
    different = {tuple(row) for row in SAMPLES}
    assert score == pytest.approx(
        {
            "generation_perplexity": math.sqrt(max(forward, ordinary) * reverse),
            "forward_perplexity": forward,
            "reverse_perplexity": reverse,
            "distinct": len(different) / 307,
            "novel": len(different - {tuple(row) for row in TRAIN}) / len(different),
            "mean_length": sum(map(len, SAMPLES)) / 307,
        },
        rel=1e-12,
    )
    assert 0 < score["novel"] < 1
    assert score["distinct"] < 1


def test_worse_samples_score_worse() -> None:
    rng = random.Random(4)
    shuffled = [rng.sample(row, len(row)) for row in SAMPLES]
    noise = [[rng.randrange(VOCABULARY) for _ in row] for row in SAMPLES]
    one = [SAMPLES[0]] * len(SAMPLES)
    good, mixed, random_tokens, repeated = (SCORER.score(rows) for rows in (SAMPLES, shuffled, noise, one))
    for bad in (mixed, random_tokens, repeated):
        assert better("generation_perplexity", good["generation_perplexity"], bad["generation_perplexity"])
    assert good["forward_perplexity"] < mixed["forward_perplexity"] < random_tokens["forward_perplexity"]
    assert repeated["reverse_perplexity"] > 100 * good["reverse_perplexity"]
    assert better("generation_perplexity", mixed["generation_perplexity"], repeated["generation_perplexity"])


def test_samples_more_probable_than_real_text_are_no_better_for_it() -> None:
    """The likeliest two thirds of some sentences cover less: the plain product would choose them."""
    pool = sentences(3 * len(SAMPLES), seed=5)
    one_by_one = [SCORER.real.perplexity([row]) for row in pool]
    usual = [row for _, row in sorted(zip(one_by_one, pool, strict=True))][: 2 * len(pool) // 3]
    all_, likely = SCORER.score(pool), SCORER.score(usual)
    assert likely["forward_perplexity"] < SCORER.ordinary and likely["reverse_perplexity"] > all_["reverse_perplexity"]
    products = [s["forward_perplexity"] * s["reverse_perplexity"] for s in (all_, likely)]
    assert products[1] < products[0], "a case that tells nothing"
    assert better("generation_perplexity", all_["generation_perplexity"], likely["generation_perplexity"])


def test_samples_of_a_decoder_that_ignores_its_code_score_worse() -> None:
    """Where codes tell nothing, a token costs what it costs without them: e to a quarter of that is charged."""
    alone, text = SCORER.score(SAMPLES), math.log(SCORER.ordinary)
    told = [SCORER.score(SAMPLES, nll=share * text) for share in (0.0, 0.5, 0.75, 0.76, 0.9, 1.0)]
    factors = [score["generation_perplexity"] / alone["generation_perplexity"] for score in told]
    assert factors[:3] == pytest.approx([1, 1, 1])
    assert factors[3:] == pytest.approx([SCORER.ordinary**share for share in (0.01, 0.15, 0.25)])
    rest = [{name: value for name, value in score.items() if name != "generation_perplexity"} for score in told]
    assert all(figures.items() < alone.items() for figures in rest)


@pytest.mark.parametrize("nll", [1e3, math.inf])
def test_what_is_charged_is_finite(nll: float) -> None:
    assert SCORER.charge(nll) == pytest.approx(1000)
    assert math.isnan(SCORER.charge(math.nan)), "worse than anything"


def test_empty_samples_count_against_a_model() -> None:
    def with_empty(every: int) -> dict[str, float]:
        return SCORER.score([[] if i % every == 0 else row for i, row in enumerate(SAMPLES)])

    scores = [SCORER.score(SAMPLES), with_empty(10), with_empty(2), with_empty(1)]
    for figure in ("generation_perplexity", "forward_perplexity", "reverse_perplexity"):
        values = [score[figure] for score in scores]
        assert values == sorted(values), figure
        assert all(map(math.isfinite, values))
    assert scores[-1]["generation_perplexity"] > VOCABULARY + 1, "silence must be worse than noise"
    assert scores[-1]["mean_length"] == 0
    assert scores[-1]["distinct"] == 1 / 307


def test_a_store_and_lists_score_alike() -> None:
    def store(rows: list[list[int]]) -> FlatRows:
        ids, offsets = flat_rows(rows)
        return FlatRows(ids.astype(np.int32), offsets)

    scorer = SentenceScorer(store(TRAIN), store(VALIDATION), VOCABULARY)
    assert scorer.score(store(SAMPLES)) == SCORER.score(SAMPLES)


def test_long_splits_are_thinned_but_nothing_known_is_novel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "MOST_TRAIN", 101)
    monkeypatch.setattr(generation, "MOST_VALIDATION", 53)
    monkeypatch.setattr(generation, "_CHUNK", 89)
    scorer = SentenceScorer(TRAIN, VALIDATION, VOCABULARY)
    thinned = [TRAIN[i * 997 // 101] for i in range(101)]
    score = scorer.score(SAMPLES)
    assert score["forward_perplexity"] == CountLanguageModel(thinned, VOCABULARY).perplexity(SAMPLES)
    assert len(scorer.validation.offsets) == 53 + 1
    assert scorer.score(TRAIN)["novel"] == 0
    assert score["novel"] == SCORER.score(SAMPLES)["novel"]


def test_like_rows_are_told_apart() -> None:
    """Nothing about a row is lost in its fingerprint: order, length, id 0, where one row ends and the next begins."""
    rows = [[], [0], [0, 0], [1], [0, 1], [1, 0], [1, 1], [0, 1, 0]]
    assert SCORER.score(rows)["distinct"] == 1
    assert SCORER.score(rows + rows)["distinct"] == 1 / 2


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(ValueError, match="samples must be >= 1"):
        SCORER.score([])
    with pytest.raises(ValueError, match="one of the splits has none"):
        SentenceScorer(TRAIN, [], VOCABULARY)


def test_better() -> None:
    assert SELECTION["text"][0] in SCORER.score(SAMPLES)
    assert better("generation_perplexity", 40.0, 50.0)
    assert not better("generation_perplexity", 50.0, 40.0)
    assert better("generation_f1", 0.5, 0.4)
    assert not better("generation_f1", 0.4, 0.5)
    for figure, _ in SELECTION.values():
        assert not better(figure, 1.0, 1.0)
        assert better(figure, 1.0, math.nan)
        assert not better(figure, math.nan, 1.0)
        assert not better(figure, math.nan, math.nan)


@pytest.mark.parametrize(
    ("kind", "figure", "worse", "best"),
    [
        ("text", "generation_perplexity", 50.0, 40.0),
        ("labelled text", "transfer_score", 40.0, 50.0),
        ("image", "generation_f1", 0.4, 0.5),
    ],
)
def test_what_is_better_by_the_figure_of_each_kind(kind: str, figure: str, worse: float, best: float) -> None:
    assert SELECTION[kind][0] == figure
    assert better(figure, best, worse) and not better(figure, worse, best)
