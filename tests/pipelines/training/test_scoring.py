"""Scores of an evaluation: on validation data, with scorers made once for each corpus."""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest

from arae_core.evaluation.generation import SentenceScorer
from arae_core.evaluation.latent import code_statistics
from arae_core.model import Model
from arae_core.settings.tree import with_settings
from arae_core.training.state import TrainingState
from pipelines.corpora.corpus import Corpus, prepare
from pipelines.experiment.settings import Experiment
from pipelines.training import scoring
from pipelines.training.scoring import Scorer


@pytest.fixture(scope="module")
def labelled(small: Experiment, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Corpus, TrainingState]:
    """Sentences with a class, and an untrained model of them."""
    experiment = replace(small, data=replace(small.data, label="sentiment"))
    corpus = prepare(experiment, tmp_path_factory.mktemp("storage"))
    return experiment, corpus, TrainingState.new(experiment.core, corpus.spec)


def test_scorers_are_shared_by_the_trials_of_a_corpus(
    small: Experiment, corpus: Corpus, labelled: tuple[Experiment, Corpus, TrainingState]
) -> None:
    first, second = Scorer(small, corpus), Scorer(replace(small, seed=7), corpus)
    assert first._samples is second._samples
    state = TrainingState.new(small.core, corpus.spec)
    assert first.score(state)[0] == Scorer(small, corpus).score(state)[0]
    other = Scorer(*labelled[:2])
    assert other._samples is not first._samples
    assert other._classifier is not None and first._classifier is None


def test_the_test_split_is_not_read(
    labelled: tuple[Experiment, Corpus, TrainingState], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models are selected by these scores."""
    experiment, corpus, state = labelled
    load, read = Corpus.store, set[str]()
    monkeypatch.setattr(Corpus, "store", lambda self, split: read.add(split) or load(self, split))  # type: ignore[func-returns-value]
    scoring._corpus_scorers.cache_clear()
    metrics, shown = Scorer(experiment, corpus).score(state)
    assert read == {"train", "validation"}
    assert 0 <= metrics["transfer_score"] <= 100 and "transferred sentence" in shown


def test_a_copied_sentence_has_the_wrong_class(labelled: tuple[Experiment, Corpus, TrainingState]) -> None:
    """Each sentence is transferred to another class than its own."""
    experiment, corpus, state = labelled
    with patch.object(Model, "transfer", lambda self, sentences, wanted: list(sentences)):
        metrics, _ = Scorer(experiment, corpus).score(state)
    assert metrics["transfer_accuracy"] == 0 and metrics["transfer_self_bleu"] == pytest.approx(100)


def test_code_statistics_are_of_encoded_and_of_generated_codes(small: Experiment, corpus: Corpus) -> None:
    experiment = with_settings(small, {"code.kind": "euclidean", "generator.output": "linear"})
    state = TrainingState.new(experiment.core, corpus.spec)
    found, model = Scorer(experiment, corpus).score(state)[0], Model(state, corpus.vocabulary)
    store = corpus.store("validation")
    assert len(store) < scoring.PROBED_CODES
    codes = {
        "real": model.encode_store(store, np.arange(len(store))),
        "fake": model.sample_codes(scoring.PROBED_CODES, seed=experiment.seed),
    }
    for kind, some in codes.items():
        for statistic, value in code_statistics(some).items():
            assert found[f"probe_{statistic}_{kind}"] == pytest.approx(value, rel=1e-5)


def test_samples_are_drawn_at_the_models_temperature(small: Experiment, corpus: Corpus) -> None:
    warm = replace(small, temperature=1.0)
    state, scorer = TrainingState.new(warm.core, corpus.spec), Scorer(warm, corpus)
    rows = Model(state, corpus.vocabulary).generate_ids(warm.samples, seed=warm.seed, temperature=1.0)
    assert isinstance(scorer._samples, SentenceScorer)
    found = scorer.score(state)[0]
    assert found.items() >= scorer._samples.score(rows, nll=found["validation_nll"]).items()
    assert scorer._samples.penalty(found["validation_nll"]) > 1, "an untrained code carries no information"
