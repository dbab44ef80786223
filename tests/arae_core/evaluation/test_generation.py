"""Metrics of sampled sentences: their definitions, their ranking of good and bad samples, and extreme samples."""

import math
import random

import numpy as np
import pytest

from arae_core.evaluation import generation
from arae_core.evaluation.count_language_model import CountLanguageModel, FlatRows, flat_rows
from arae_core.evaluation.generation import SELECTION, SentenceScorer, better

VOCABULARY = 37
PERPLEXITIES = ("generation_perplexity", "forward_perplexity", "reverse_perplexity")


def sentences(count: int, seed: int) -> list[list[int]]:
    """Sentences of a Markov chain: each token has five followers, and a sentence ends with probability 1/6."""
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


def test_metrics_equal_their_definitions() -> None:
    forward = CountLanguageModel(TRAIN, VOCABULARY).perplexity(SAMPLES)
    reverse = CountLanguageModel(SAMPLES, VOCABULARY, continuation=False).perplexity(VALIDATION)
    real = CountLanguageModel(TRAIN, VOCABULARY).perplexity(VALIDATION)
    different = {tuple(row) for row in SAMPLES}
    expected = {
        "generation_perplexity": math.sqrt(max(forward, real) * reverse),
        "forward_perplexity": forward,
        "reverse_perplexity": reverse,
        "distinct": len(different) / 307,
        "novel": len(different - {tuple(row) for row in TRAIN}) / len(different),
        "mean_length": sum(map(len, SAMPLES)) / 307,
    }
    score = SCORER.score(SAMPLES)
    assert score == pytest.approx(expected, rel=1e-12)
    assert 0 < score["novel"] < 1 and score["distinct"] < 1
    ids, offsets = flat_rows(SAMPLES)
    assert SCORER.score(FlatRows(ids.astype(np.int32), offsets)) == score


def test_worse_samples_score_worse() -> None:
    rng = random.Random(4)
    shuffled = [rng.sample(row, len(row)) for row in SAMPLES]
    noise = [[rng.randrange(VOCABULARY) for _ in row] for row in SAMPLES]
    one = [SAMPLES[0]] * len(SAMPLES)
    good, mixed, random_tokens, repeated = (SCORER.score(rows) for rows in (SAMPLES, shuffled, noise, one))
    for bad in (mixed, random_tokens, repeated):
        assert good["generation_perplexity"] < bad["generation_perplexity"]
    assert good["forward_perplexity"] < mixed["forward_perplexity"] < random_tokens["forward_perplexity"]
    assert repeated["reverse_perplexity"] > 100 * good["reverse_perplexity"]
    assert mixed["generation_perplexity"] < repeated["generation_perplexity"]


def test_samples_more_probable_than_real_text_get_no_credit() -> None:
    """The most probable two thirds of some sentences cover less text, but the plain product would prefer them."""
    pool = sentences(3 * len(SAMPLES), seed=5)
    model = CountLanguageModel(TRAIN, VOCABULARY)
    probable = sorted(pool, key=lambda row: (model.perplexity([row]), row))[: 2 * len(pool) // 3]
    all_, likely = SCORER.score(pool), SCORER.score(probable)
    assert likely["forward_perplexity"] < model.perplexity(VALIDATION), "the case must exercise the clamp"
    assert likely["reverse_perplexity"] > all_["reverse_perplexity"]
    products = [s["forward_perplexity"] * s["reverse_perplexity"] for s in (all_, likely)]
    assert products[1] < products[0], "the case must be one that the plain product ranks wrongly"
    assert all_["generation_perplexity"] < likely["generation_perplexity"]


def test_a_decoder_that_ignores_its_code_is_penalized() -> None:
    """The code must explain a quarter of the cost of a token; every nat less multiplies the metric by e."""
    unpenalized, text = SCORER.score(SAMPLES), math.log(SCORER.validation_perplexity)
    scores = [SCORER.score(SAMPLES, nll=share * text) for share in (0.0, 0.5, 0.75, 0.76, 0.9, 1.0)]
    factors = [score["generation_perplexity"] / unpenalized["generation_perplexity"] for score in scores]
    assert factors[:3] == pytest.approx([1, 1, 1])
    assert factors[3:] == pytest.approx([SCORER.validation_perplexity**share for share in (0.01, 0.15, 0.25)])
    for score in scores:
        score.pop("generation_perplexity")
        assert score.items() < unpenalized.items()
    assert [SCORER.penalty(nll) for nll in (1e3, math.inf)] == pytest.approx([1000, 1000])
    assert math.isnan(SCORER.penalty(math.nan))


def test_empty_samples_count_against_a_model() -> None:
    rows = [[[] if i % every == 0 else row for i, row in enumerate(SAMPLES)] for every in (10, 2, 1)]
    scores = [SCORER.score(SAMPLES), *map(SCORER.score, rows)]
    for metric in PERPLEXITIES:
        values = [score[metric] for score in scores]
        assert values == sorted(values) and all(map(math.isfinite, values)), metric
    assert scores[-1]["generation_perplexity"] > VOCABULARY + 1, "worse than uniform noise"
    assert (scores[-1]["mean_length"], scores[-1]["distinct"]) == (0, 1 / 307)


def test_long_splits_are_thinned_but_novel_uses_all_training_text(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MAX_TRAIN", 101), ("MAX_VALIDATION", 53), ("_CHUNK", 89)):
        monkeypatch.setattr(generation, name, value)
    scorer = SentenceScorer(TRAIN, VALIDATION, VOCABULARY)
    thinned = [TRAIN[i * 997 // 101] for i in range(101)]
    score = scorer.score(SAMPLES)
    assert score["forward_perplexity"] == CountLanguageModel(thinned, VOCABULARY).perplexity(SAMPLES)
    assert len(scorer.validation.offsets) == 53 + 1
    assert scorer.score(TRAIN)["novel"] == 0 and score["novel"] == SCORER.score(SAMPLES)["novel"]


def test_similar_rows_are_distinct() -> None:
    """Rows that differ in order, length, id 0, or the position of a boundary."""
    rows = [[], [0], [0, 0], [1], [0, 1], [1, 0], [1, 1], [0, 1, 0]]
    assert SCORER.score(rows)["distinct"] == 1
    assert SCORER.score(rows + rows)["distinct"] == 1 / 2


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(ValueError, match="samples must be >= 1"):
        SCORER.score([])
    with pytest.raises(ValueError, match="an empty split"):
        SentenceScorer(TRAIN, [], VOCABULARY)


@pytest.mark.parametrize(
    ("kind", "metric", "worse", "best"),
    [
        ("text", "generation_perplexity", 50.0, 40.0),
        ("labelled text", "transfer_score", 40.0, 50.0),
        ("image", "generation_f1", 0.4, 0.5),
    ],
)
def test_selection_metric_of_each_kind_of_data(kind: str, metric: str, worse: float, best: float) -> None:
    assert SELECTION[kind][0] == metric
    assert better(metric, best, worse) and better(metric, worse, math.nan)
    for a, b in ((worse, best), (best, best), (math.nan, best), (math.nan, math.nan)):
        assert not better(metric, a, b)
