"""What is measured at an evaluation: what judges is made once a corpus, and judges alike from trial to trial."""

from dataclasses import replace
from pathlib import Path

from arae_core.state import TrainingState
from pipelines.engine.scoring import Scorer
from pipelines.experiment.corpora import Corpus, prepare
from pipelines.experiment.settings import Experiment


def test_trials_of_a_process_share_what_judges_their_samples(small: Experiment, corpus: Corpus) -> None:
    first, second = Scorer(small, corpus), Scorer(replace(small, seed=7), corpus)
    assert first._samples is second._samples
    state = TrainingState.new(small.core, corpus.shape)
    assert first.score(state)[0] == Scorer(small, corpus).score(state)[0]


def test_another_corpus_has_judges_of_its_own(small: Experiment, corpus: Corpus, tmp_path: Path) -> None:
    labelled = replace(small, data=replace(small.data, label="sentiment"))
    other = prepare(labelled, tmp_path)
    scorer = Scorer(labelled, other)
    assert scorer._samples is not Scorer(small, corpus)._samples
    assert scorer._classifier is not None and Scorer(small, corpus)._classifier is None
    figures, shown = scorer.score(TrainingState.new(labelled.core, other.shape))
    assert 0 <= figures["transfer_score"] <= 100 and "class asked for" in shown
