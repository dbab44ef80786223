"""Precision: the autoencoder under autocast, everything else in float32, and `auto`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from arae_core import model
from arae_core.data.vocabulary import Vocabulary
from arae_core.model import Model
from arae_core.runtime import precision
from arae_core.runtime.parallel import Parallel
from arae_core.runtime.precision import check_precision, lstm_runs_in_bfloat16, precision_on
from arae_core.settings import VocabularySettings
from arae_core.training.checkpoint import load_checkpoint, save_checkpoint
from arae_core.training.state import TrainingState
from tests.arae_core.small import WORDS, assert_same, new_state, run, settings_of, text_settings, weights

KINDS = [
    pytest.param(
        "text", marks=pytest.mark.skipif(not lstm_runs_in_bfloat16("cpu"), reason="this CPU has no AVX-512 or the like")
    ),
    "image",
]


def state_of(kind: str, wanted: str) -> TrainingState:
    return new_state(settings_of(kind, {"precision": wanted}))


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_losses_follow_float32_and_weights_stay_float32(kind: str) -> None:
    losses = {}
    for wanted in ("float32", "bfloat16"):
        state = state_of(kind, wanted)
        losses[wanted] = [report.scalars["reconstruction_loss"] for report in run(state, 30, every=10)]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["bfloat16"] != losses["float32"], "autocast had no effect"
    moments = [v for o in state.optimizers.values() for s in o.state.values() for v in s.values()]
    assert {tensor.dtype for tensor in [*state.modules.parameters(), *moments]} == {torch.float32}
    assert state.normal(3, 2, Parallel()).dtype == torch.float32


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Pretend that the CPU has the named instructions and no others for bfloat16."""

    def has(*instructions: str, lstm: bool = True) -> None:
        precision._bfloat16_is_fast.cache_clear()
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True} | dict.fromkeys(instructions, True))
        monkeypatch.setattr(precision, "lstm_runs_in_bfloat16", lambda device_type: lstm)

    yield has
    precision._bfloat16_is_fast.cache_clear()


@pytest.mark.parametrize(
    ("instructions", "lstm", "expected"),
    [
        (("avx512_bf16",), True, "bfloat16"),
        (("amx_bf16", "avx512_f"), True, "bfloat16"),
        (("avx512_f",), True, "float32"),  # LSTMs run in bfloat16, slowly
        (("avx512_bf16",), False, "float32"),  # the library has no such LSTM
        ((), False, "float32"),
    ],
)
def test_auto_is_bfloat16_on_a_cpu_with_instructions_for_it(
    instructions: tuple[str, ...], lstm: bool, expected: str, processor: Callable[..., None]
) -> None:
    auto = text_settings({"precision": "auto"})
    processor(*instructions, lstm=lstm)
    assert precision_on("cpu", auto) == expected
    assert precision_on(torch.device("cuda", 3), auto) == "float32"
    assert precision_on("cpu", text_settings({"precision": "float64"})) == "float64"
    check_precision(auto, "cpu")


@pytest.mark.parametrize("kind", ["text", "image"])
def test_auto_trains_as_the_precision_it_stands_for(kind: str) -> None:
    auto = state_of(kind, "auto")
    named = state_of(kind, auto.precision)
    assert auto.settings.precision == "auto" and named.settings.precision in ("float32", "bfloat16")
    for state in (auto, named):
        run(state, 5)
    assert_same(weights(auto), weights(named))


def test_a_checkpoint_with_auto_adapts_to_the_cpu(processor: Callable[..., None], tmp_path: Path) -> None:
    processor("avx512_bf16")
    saved = save_checkpoint(tmp_path / "model", state_of("image", "auto"))
    assert load_checkpoint(saved)[0].precision == "bfloat16"
    processor()
    assert load_checkpoint(saved)[0].precision == "float32"


def test_a_cpu_without_bfloat16_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "lstm_runs_in_bfloat16", lambda device_type: device_type == "cuda")
    state = state_of("text", "bfloat16")  # such a model may be loaded and used
    with pytest.raises(ValueError, match=r"precision must be auto or float32 .* got 'bfloat16'"):
        run(state, 3)
    assert state.step == 0
    check_precision(state.settings, "cuda")
    check_precision(settings_of("image", {"precision": "bfloat16"}), "cpu")


def test_decoding_uses_the_precision_of_training_if_the_device_can(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = Vocabulary.train([" ".join(map(str, WORDS))], VocabularySettings(tokenizer="spaces"))
    written, autocast = {}, list[bool]()
    for runs in (False, True) if lstm_runs_in_bfloat16("cpu") else (False,):
        monkeypatch.setattr(model, "lstm_runs_in_bfloat16", lambda device_type, runs=runs: runs)
        for wanted in ("float32", "bfloat16"):
            state = state_of("text", wanted)
            output: Any = state.modules["decoder"].get_submodule("output")
            output.register_forward_hook(lambda *_: autocast.append(torch.is_autocast_enabled("cpu")))
            written[runs, wanted] = Model(state, vocabulary).generate_ids(211, seed=1)
            assert set(autocast) == {runs and wanted == "bfloat16"}
            autocast.clear()
    assert written[False, "float32"] == written[False, "bfloat16"]
    if (True, "bfloat16") in written:
        same = sum(a == b for a, b in zip(written[True, "float32"], written[True, "bfloat16"], strict=True))
        assert written[True, "float32"] == written[False, "float32"] and same > 0.8 * 211
