"""One classifier of the table: on what it is chosen, what it learns from, and beside what."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arae_core.classification import SentenceClassifier
from arae_core.data.labelled import LabelledStore, load_labelled
from arae_core.settings.tree import flatten, with_settings
from pipelines.classification.classifier_trial import Cell, Plan, Row, learn_classifier, steps_of
from pipelines.corpora.corpus import prepare, prepare_labelled
from pipelines.experiment.presets import preset
from pipelines.experiment.settings import Classification
from tests.pipelines.test_classify import TINY

CLASSES = ("contradiction", "entailment", "neutral")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Plan]:
    storage = tmp_path_factory.mktemp("storage")

    def make(**changes: Any) -> Plan:
        experiment = with_settings(preset("grammar-entailment"), {**TINY, **changes})
        assert isinstance(experiment, Classification)
        corpus = prepare(experiment.without_labels, storage)
        labelled, _ = prepare_labelled(experiment, corpus, storage)
        return Plan(flatten(experiment), str(corpus.folder), str(labelled), CLASSES, 2, str(storage), "", "", "")

    return make


def test_the_weights_kept_are_those_of_the_best_evaluation_on_validation(
    plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test split is looked at once, with them."""
    given, told = iter((0.5, 0.9, 0.9, 0.2, 0.7)), list[tuple[int, Row]]()
    looked: list[tuple[LabelledStore, dict[str, torch.Tensor]]] = []

    def accuracy(self: SentenceClassifier, labelled: LabelledStore) -> float:
        looked.append((labelled, self.weights()))
        return next(given)

    monkeypatch.setattr(SentenceClassifier, "accuracy", accuracy)
    made = plan(iterations=8, evaluate_every=2, **{"head.start": 0.0})
    found, row = learn_classifier(Cell("supervised", 9, 1), made, None, "cpu", lambda *each: told.append(each))
    assert row == {"validation": 90, "test": pytest.approx(70), "step": 4}
    assert all(torch.equal(value, looked[1][1][name]) for name, value in found.weights().items())
    splits = {name: load_labelled(Path(made.labelled, name)) for name in ("validation", "test")}
    for labelled, split in zip([each for each, _ in looked], [*["validation"] * 4, "test"], strict=True):
        assert np.array_equal(labelled.sentences.ids, splits[split].sentences.ids), split


def test_the_autoencoder_learns_beside_the_classifier_only_where_it_is_to(plan: Callable[..., Plan]) -> None:
    for method, joint, learns in (("ae", True, True), ("ae", False, False), ("supervised", True, False)):
        told = list[tuple[int, Row]]()
        made = plan(**{"head.joint": joint})
        learn_classifier(Cell(method, 9, 0), made, None, "cpu", partial(lambda kept, *each: kept.append(each), told))
        assert all(("reconstruction_loss" in figures) == learns for _, figures in told) and told


def test_seeds_draw_other_labelled_examples(plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[LabelledStore]()

    def watched(classifier: Any, labelled: LabelledStore, *rest: Any, **named: Any) -> Any:
        seen.append(labelled)
        return []

    monkeypatch.setattr("arae_core.classification.train_classifier", watched)
    monkeypatch.setattr(SentenceClassifier, "load_weights", lambda self, weights: None)
    for seed in (0, 1):
        learn_classifier(Cell("supervised", 9, seed), plan(), None, "cpu", lambda *_: None)
    assert [len(each) for each in seen] == [9, 9]
    assert not np.array_equal(seen[0].sentences.ids, seen[1].sentences.ids)


def test_the_supervised_steps_begin_where_head_start_says() -> None:
    experiment = with_settings(preset("grammar-entailment"), {**TINY, "iterations": 30, "head.start": 0.3})
    assert isinstance(experiment, Classification)
    assert steps_of(experiment, experiment.head, 1000) == (9, 30)
