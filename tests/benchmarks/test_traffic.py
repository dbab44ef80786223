"""What workers all-reduce and checkpoints hold, counted in the real iteration."""

import json
from typing import Any

import pytest
from torch import nn

from arae_core.settings.tree import with_settings
from benchmarks.examples import examples
from benchmarks.traffic import all_reduced, main, measured
from pipelines.experiment.presets import preset


def small(name: str, **changes: Any) -> Any:
    parts = {"encoder.hidden": (7,), "decoder.hidden": (7,), "code.size": 5, "vocabulary.size": 50, "batch_size": 6}
    return with_settings(preset(name), parts | changes)


def size(*modules: nn.Module) -> int:
    """Bytes of the gradients of what is trained."""
    return 4 * sum(weight.numel() for module in modules for weight in module.parameters())


def test_each_step_sends_the_gradients_of_what_it_updates() -> None:
    from arae_core.data.batch_sampler import BatchSampler
    from arae_core.data.batches import TextBatch
    from arae_core.training.state import TrainingState

    settings = small("snli", **{"critic.steps": 3})
    store, shape, vocabulary = examples(settings, None)
    assert vocabulary is not None
    state = TrainingState.new(settings, shape)
    part, feed = state.modules, BatchSampler(store, shape, 6, settings.seed, world=2)
    unread = {}  # bytes of a table's rows whose gradient is zero: nobody sends them
    for step, batch in (("(1)", feed.reconstruct(0)[0]), ("(3)", feed.confuse(0))):
        assert isinstance(batch, TextBatch) and batch.words is not None
        unread[step] = 4 * 300 * (len(vocabulary) - len(batch.words))
        assert unread[step] > 0
    assert all_reduced(state, store) == {
        "encoder + decoder": [size(part["encoder"], part["decoder"]) - 2 * unread["(1)"]],
        "critic": [size(part["critic"])] * 3,
        "encoder": [size(part["encoder"]) - unread["(3)"]],
        "generator": [size(part["generator"])],
    }


def test_labels_add_two_steps() -> None:
    without, labelled = (measured(small(name))["all_reduced"] for name in ("snli", "yelp"))
    assert len(labelled["encoder"]) == len(without["encoder"]) + 1
    assert set(labelled) - set(without) == {"classifier"}


def test_a_plain_autoencoder_sends_once() -> None:
    report = measured(small("snli-ae"))
    assert list(report["all_reduced"]) == ["encoder + decoder"]
    assert report["checkpoint"] > 2 * report["model"] > 0  # Adam keeps two moments of every weight


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--presets", "grammar,digits"]) == 0
    assert {"grammar", "digits"} <= set(capsys.readouterr().out.split())
    assert main(["--presets", "digits", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["presets"][0]["preset"] == "digits"
    assert main(["--presets", "digit"]) == 2
    assert "did you mean digits?" in capsys.readouterr().err
