"""All-reduced bytes and checkpoint sizes, counted in a real iteration."""

from typing import Any

import pytest
from torch import nn

from arae_core.data.batch_sampler import BatchSampler
from arae_core.data.batches import TextBatch
from arae_core.settings.tree import with_settings
from arae_core.training.state import TrainingState
from benchmarks.examples import examples
from benchmarks.traffic import all_reduced, main, measured
from pipelines.experiment.presets import preset
from tests.benchmarks.conftest import Report


def small(name: str, **changes: Any) -> Any:
    parts = {"encoder.hidden": (7,), "decoder.hidden": (7,), "code.size": 5, "vocabulary.size": 50, "batch_size": 6}
    return with_settings(preset(name), parts | changes)


def size(*modules: nn.Module) -> int:
    """Bytes of the gradients of all parameters."""
    return 4 * sum(weight.numel() for module in modules for weight in module.parameters())


def test_each_step_sends_the_gradients_of_the_parts_that_it_updates() -> None:
    settings = small("snli", **{"critic.steps": 3})
    store, spec, vocabulary = examples(settings, None)
    assert vocabulary is not None
    state = TrainingState.new(settings, spec)
    part, batches = state.modules, BatchSampler(store, spec, 6, settings.seed, world=2)
    unread = {}  # bytes of word vectors whose gradient is zero, which are not sent
    for step, batch in (("(1)", batches.reconstruction_batch(0)[0]), ("(3)", batches.adversarial_batch(0))):
        assert isinstance(batch, TextBatch) and batch.words is not None
        unread[step] = 4 * 300 * (len(vocabulary) - len(batch.words))
        assert unread[step] > 0
    assert all_reduced(state, store) == {
        "encoder + decoder": [size(part["encoder"], part["decoder"]) - 2 * unread["(1)"]],
        "critic": [size(part["critic"])] * 3,
        "encoder": [size(part["encoder"]) - unread["(3)"]],
        "prior": [size(part["prior"])],
    }


def test_labels_add_two_steps_and_a_plain_autoencoder_has_one() -> None:
    plain, adversarial, labelled = (measured(small(name)) for name in ("snli-ae", "snli", "yelp"))
    assert list(plain["all_reduced"]) == ["encoder + decoder"]
    assert plain["checkpoint"] > 2 * plain["model"] > 0  # Adam keeps two moments of every weight
    assert len(labelled["all_reduced"]["encoder"]) == len(adversarial["all_reduced"]["encoder"]) + 1
    assert set(labelled["all_reduced"]) - set(adversarial["all_reduced"]) == {"classifier"}


def test_the_command(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(main, ["--presets", "digits"])["presets"][0]["preset"] == "digits"
    assert main(["--presets", "grammar,digits"]) == 0
    assert {"grammar", "digits"} <= set(capsys.readouterr().out.split())
