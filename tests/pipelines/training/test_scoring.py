"""What is measured at an evaluation: what judges is made once a corpus, and judges alike from trial to trial."""

from dataclasses import replace
from pathlib import Path
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


def test_trials_of_a_process_share_what_judges_their_samples(small: Experiment, corpus: Corpus) -> None:
    first, second = Scorer(small, corpus), Scorer(replace(small, seed=7), corpus)
    assert first._samples is second._samples
    state = TrainingState.new(small.core, corpus.spec)
    assert first.score(state)[0] == Scorer(small, corpus).score(state)[0]


def test_another_corpus_has_judges_of_its_own(small: Experiment, corpus: Corpus, tmp_path: Path) -> None:
    labelled = replace(small, data=replace(small.data, label="sentiment"))
    other = prepare(labelled, tmp_path)
    scorer = Scorer(labelled, other)
    assert scorer._samples is not Scorer(small, corpus)._samples
    assert scorer._classifier is not None and Scorer(small, corpus)._classifier is None
    figures, shown = scorer.score(TrainingState.new(labelled.core, other.spec))
    assert 0 <= figures["transfer_score"] <= 100 and "class asked for" in shown


def test_nothing_is_measured_on_the_test_split(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models are chosen by what is measured here."""
    labelled = replace(small, data=replace(small.data, label="sentiment"))
    prepared, asked = prepare(labelled, tmp_path), set[str]()
    load = Corpus.store
    monkeypatch.setattr(Corpus, "store", lambda self, split: asked.add(split) or load(self, split))  # type: ignore[func-returns-value]
    Scorer(labelled, prepared).score(TrainingState.new(labelled.core, prepared.spec))
    assert asked == {"train", "validation"}


def test_a_copy_takes_no_class_and_keeps_all(small: Experiment, tmp_path: Path) -> None:
    """A sentence is asked for as of another class than its own."""
    labelled = replace(small, data=replace(small.data, label="sentiment"))
    prepared = prepare(labelled, tmp_path)
    with patch.object(Model, "transfer", lambda self, sentences, wanted: list(sentences)):
        figures, _ = Scorer(labelled, prepared).score(TrainingState.new(labelled.core, prepared.spec))
    assert figures["transfer_accuracy"] == 0 and figures["transfer_self_bleu"] == pytest.approx(100)


def test_codes_looked_at_are_those_encoded_and_those_generated(small: Experiment, corpus: Corpus) -> None:
    settings = {"code.kind": "euclidean", "generator.output": "linear"}
    experiment = with_settings(small, settings)
    state = TrainingState.new(experiment.core, corpus.spec)
    found, model = Scorer(experiment, corpus).score(state)[0], Model(state, corpus.vocabulary)
    store = corpus.store("validation")
    codes = {
        "real": model.encode_store(store, np.arange(len(store))),
        "fake": model.sample_codes(scoring.PROBED, seed=experiment.seed),
    }
    assert len(store) < scoring.PROBED
    for whose, some in codes.items():
        for what, value in code_statistics(some).items():
            assert found[f"probe_{what}_{whose}"] == pytest.approx(value, rel=1e-5)


def test_samples_are_measured_as_the_model_draws_them(small: Experiment, corpus: Corpus) -> None:
    """At its own temperature, which is what the registry's model is used at."""
    warm = replace(small, temperature=1.0)
    state = TrainingState.new(warm.core, corpus.spec)
    scorer = Scorer(warm, corpus)
    rows = Model(state, corpus.vocabulary).generate_ids(warm.samples, seed=warm.seed, temperature=1.0)
    assert isinstance(scorer._samples, SentenceScorer)
    found = scorer.score(state)[0]
    assert found.items() >= scorer._samples.score(rows, nll=found["validation_nll"]).items()
    assert scorer._samples.charge(found["validation_nll"]) > 1, "its codes tell nothing yet"
