"""One classifier of the table: its selection, its labelled examples, joint training."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arae_core.classification import SentenceClassifier
from arae_core.data.labelled import LabelledStore, load_labelled
from arae_core.settings.tree import flatten, with_settings
from pipelines.classification.classifier_trial import ClassifierPlan, ClassifierTrial, learn_classifier, steps_of
from pipelines.corpora.corpus import prepare, prepare_labelled
from pipelines.experiment.presets import preset
from pipelines.experiment.settings import Classification
from tests.pipelines.test_classify import TINY

CLASSES = ("contradiction", "entailment", "neutral")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ClassifierPlan]:
    storage = tmp_path_factory.mktemp("storage")

    def make(**changes: Any) -> ClassifierPlan:
        experiment = with_settings(preset("grammar-entailment"), {**TINY, **changes})
        assert isinstance(experiment, Classification)
        corpus = prepare(experiment.without_labels, storage)
        labelled, _ = prepare_labelled(experiment, corpus, storage)
        return ClassifierPlan(
            flatten(experiment), str(corpus.folder), str(labelled), CLASSES, 2, str(storage), "", "", ""
        )

    return make


def test_the_weights_of_the_best_evaluation_are_kept(
    plan: Callable[..., ClassifierPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test split is used once, with these weights."""
    given = iter((0.5, 0.9, 0.9, 0.2, 0.7))
    calls: list[tuple[LabelledStore, dict[str, torch.Tensor]]] = []

    def accuracy(self: SentenceClassifier, labelled: LabelledStore) -> float:
        calls.append((labelled, self.weights()))
        return next(given)

    monkeypatch.setattr(SentenceClassifier, "accuracy", accuracy)
    made = plan(iterations=8, evaluate_every=2, **{"head.start": 0.0})
    found, row = learn_classifier(ClassifierTrial("supervised", 9, 1), made, None, "cpu", lambda *_: None)
    assert row == {"validation": 90, "test": pytest.approx(70), "step": 4}
    assert all(torch.equal(value, calls[1][1][name]) for name, value in found.weights().items())
    splits = {name: load_labelled(Path(made.labelled, name)) for name in ("validation", "test")}
    for (labelled, _), split in zip(calls, [*["validation"] * 4, "test"], strict=True):
        assert np.array_equal(labelled.sentences.ids, splits[split].sentences.ids), split


@pytest.mark.parametrize(
    ("method", "joint", "learns"), [("ae", True, True), ("ae", False, False), ("supervised", True, False)]
)
def test_head_joint_trains_the_autoencoder_beside_the_classifier(
    method: str, joint: bool, learns: bool, plan: Callable[..., ClassifierPlan]
) -> None:
    logged = list[Mapping[str, float]]()
    trial = ClassifierTrial(method, 9, 0)
    learn_classifier(trial, plan(**{"head.joint": joint}), None, "cpu", lambda _, metrics: logged.append(metrics))
    reports = [metrics for metrics in logged if "validation_accuracy" not in metrics]
    assert reports and all(("reconstruction_loss" in metrics) == learns for metrics in reports)


def test_seeds_draw_different_labelled_examples(
    plan: Callable[..., ClassifierPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[LabelledStore]()

    def watched(classifier: Any, labelled: LabelledStore, *rest: Any, **named: Any) -> Any:
        seen.append(labelled)
        return []

    monkeypatch.setattr("arae_core.classification.train_classifier", watched)
    monkeypatch.setattr(SentenceClassifier, "load_weights", lambda self, weights: None)
    for seed in (0, 1):
        learn_classifier(ClassifierTrial("supervised", 9, seed), plan(), None, "cpu", lambda *_: None)
    assert [len(each) for each in seen] == [9, 9]
    assert not np.array_equal(seen[0].sentences.ids, seen[1].sentences.ids)


def test_head_start_decides_where_the_supervised_steps_begin() -> None:
    experiment = with_settings(preset("grammar-entailment"), {**TINY, "iterations": 30, "head.start": 0.3})
    assert isinstance(experiment, Classification)
    assert steps_of(experiment, experiment.head, 1000) == (9, 30)
