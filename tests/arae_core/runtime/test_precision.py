"""precision bfloat16: the autoencoder's products are half as long, everything that must be exact stays float32."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from arae_core import model
from arae_core.codecs.text import Projection
from arae_core.data.vocabulary import Vocabulary
from arae_core.model import Model
from arae_core.runtime import precision
from arae_core.runtime.parallel import Parallel
from arae_core.runtime.precision import check_precision, lstm_runs_in_bfloat16, precision_on
from arae_core.settings import Settings, VocabularySettings
from arae_core.settings.tree import with_settings
from arae_core.training.checkpoint import load_checkpoint, save_checkpoint
from arae_core.training.loop import train
from tests.arae_core.small import WORDS, new_state, settings_of, store_of


def settings(kind: str, wanted: str) -> Settings:
    return with_settings(settings_of(kind), {"precision": wanted})


KINDS = [
    pytest.param(
        "text", marks=pytest.mark.skipif(not lstm_runs_in_bfloat16("cpu"), reason="this processor cannot: no AVX-512")
    ),
    "image",
]


@pytest.mark.parametrize("kind", KINDS)
def test_losses_follow_those_of_float32(kind: str) -> None:
    losses = {}
    for wanted in ("float32", "bfloat16"):
        state = new_state(settings(kind, wanted))
        reports = list(train(state, store_of(kind), until=30, every=10))
        losses[wanted] = [report.scalars["reconstruction_loss"] for report in reports]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["bfloat16"] != losses["float32"], "autocast had no effect"


@pytest.mark.parametrize("kind", KINDS)
def test_weights_moments_and_codes_stay_float32(kind: str) -> None:
    state = new_state(settings(kind, "bfloat16"))
    list(train(state, store_of(kind), until=3, every=3))
    assert {tensor.dtype for tensor in state.modules.parameters()} == {torch.float32}
    moments = [v for o in state.optimizers.values() for s in o.state.values() for v in s.values()]
    assert {tensor.dtype for tensor in moments} == {torch.float32}
    assert state.normal(3, 2, Parallel()).dtype == torch.float32


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Called with instructions by name: a processor that has these and no others of that kind."""

    def has(*instructions: str, lstm: bool = True) -> None:
        precision._bfloat16_is_fast.cache_clear()
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True} | dict.fromkeys(instructions, True))
        monkeypatch.setattr(precision, "lstm_runs_in_bfloat16", lambda device_type: lstm)

    yield has
    precision._bfloat16_is_fast.cache_clear()


def test_auto_is_bfloat16_where_a_processor_has_instructions_for_it(processor: Callable[..., None]) -> None:
    asked = settings("text", "auto")
    for instructions, lstm, expected in (
        (("avx512_bf16",), True, "bfloat16"),
        (("amx_bf16", "avx512_f"), True, "bfloat16"),
        (("avx512_f",), True, "float32"),  # LSTMs run there in bfloat16, and slowly
        (("avx512_bf16",), False, "float32"),  # a library that has no LSTM for it
        ((), False, "float32"),
    ):
        processor(*instructions, lstm=lstm)
        assert precision_on("cpu", asked) == expected, instructions
        assert precision_on(torch.device("cuda", 3), asked) == "float32"
        assert precision_on("cpu", settings("text", "float64")) == "float64"
        check_precision(asked, "cpu")


@pytest.mark.parametrize("kind", ["text", "image"])
def test_auto_trains_as_what_it_stands_for(kind: str) -> None:
    states = [new_state(settings(kind, "auto"))]
    states += [new_state(settings(kind, states[0].precision))]
    assert states[0].settings.precision == "auto" and states[1].settings.precision in ("float32", "bfloat16")
    for state in states:
        list(train(state, store_of(kind), until=5, every=5))
    for one, other in zip(*(state.modules.parameters() for state in states), strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_of_auto_is_used_with_what_another_processor_has(
    processor: Callable[..., None], tmp_path: Path
) -> None:
    processor("avx512_bf16")
    saved = save_checkpoint(tmp_path / "model", new_state(settings("image", "auto")))
    assert load_checkpoint(saved)[0].precision == "bfloat16"
    processor()
    assert load_checkpoint(saved)[0].precision == "float32"


def test_a_processor_that_cannot_says_so_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "lstm_runs_in_bfloat16", lambda device_type: device_type == "cuda")
    state = new_state(settings("text", "bfloat16"))  # to load it and use it is no mistake
    with pytest.raises(ValueError, match="precision must be auto or float32 on this processor"):
        next(train(state, store_of("text"), until=3, every=3))
    assert state.step == 0
    check_precision(state.settings, "cuda")
    check_precision(settings("image", "bfloat16"), "cpu")


def test_sentences_are_written_in_the_precision_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the device can; a model that was trained elsewhere is used in float32."""
    asked: list[bool] = []
    original = Projection.forward

    def forward(self: Projection, hidden: torch.Tensor) -> torch.Tensor:
        asked.append(torch.is_autocast_enabled("cpu"))
        return original(self, hidden)

    monkeypatch.setattr(Projection, "forward", forward)
    vocabulary = Vocabulary.train([" ".join(map(str, WORDS))], VocabularySettings(tokenizer="spaces"))
    written = {}
    for runs in (False, True) if lstm_runs_in_bfloat16("cpu") else (False,):
        monkeypatch.setattr(model, "lstm_runs_in_bfloat16", lambda device_type, runs=runs: runs)
        for wanted in ("float32", "bfloat16"):
            state = new_state(settings("text", wanted))
            asked.clear()
            written[runs, wanted] = Model(state, vocabulary).generate_ids(211, seed=1)
            assert set(asked) == {runs and wanted == "bfloat16"}
    assert written[False, "float32"] == written[False, "bfloat16"]
    if (True, "bfloat16") in written:
        same = sum(a == b for a, b in zip(written[True, "float32"], written[True, "bfloat16"], strict=True))
        assert written[True, "float32"] == written[False, "float32"] and same > 0.8 * 211


def test_codes_are_scaled_to_the_sphere_in_float32() -> None:
    from arae_core.codes.sphere import to_sphere

    code = to_sphere(torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.bfloat16))
    assert code.dtype == torch.float32
    assert float((code.norm(dim=1) - 1).abs().max()) < 1e-6
