"""Computed costs against the products that torch executes, and against published figures."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from arae_core.algorithm import iteration
from arae_core.data.batches import ImageStore, Store, TokenStore
from arae_core.data.data_spec import DataSpec, ImageSpec, TextSpec
from arae_core.runtime.parallel import Parallel
from arae_core.settings import Settings
from arae_core.settings.tree import with_settings
from arae_core.training.state import TrainingState
from benchmarks.costs import Cost, iteration_parts, parameters, product
from benchmarks.parts import Stopwatch, batch_sampler, stopwatch
from pipelines.experiment.presets import preset

WORDS = 16
SMALL = {
    **{"batch_size": 7, "encoder.embedding": 11, "encoder.hidden": (29,), "decoder.embedding": 13},
    **{"decoder.hidden": (31,), "code.size": 37, "generator.noise_size": 17, "generator.hidden": (23, 19)},
    **{"critic.hidden": (41, 43), "critic.steps": 3, "longest": WORDS},
}
SUBJECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "text": ("paper-snli", SMALL | {"critic.normalization": "layer"}),
    "layers": ("paper-snli", SMALL | {"encoder.hidden": (37, 37), "decoder.hidden": (31, 31), "critic.hidden": (41,)}),
    "clipped": ("paper-snli", SMALL | {"critic.objective": "wgan-clip", "generator.average": 0.9}),
    "fixed prior": ("paper-snli", SMALL | {"prior.kind": "gaussian", "critic.normalization": "layer"}),
    "autoencoder": ("paper-snli", SMALL | {"critic.objective": "none"}),
    "images": (
        "paper-mnist",
        {"encoder.hidden": (29, 31), "decoder.hidden": (23,), "code.size": 13, "critic.hidden": (19, 17)}
        | {"generator.hidden": (11,), "critic.steps": 3, "critic.objective": "wgan-clip", "batch_size": 7},
    ),
}


def subject(name: str) -> tuple[Settings, DataSpec, Store]:
    """Return settings and data. All sentences have the same length, so nothing is padded."""
    config, values = SUBJECTS[name]
    settings = with_settings(preset(config), values)
    if settings.kind == "text":
        return settings, TextSpec(101), TokenStore.from_rows([[5] * WORDS] * 53)
    pixels = torch.randint(2, (53, 5 * 7), dtype=torch.uint8).numpy()
    return settings, ImageSpec(5, 7), ImageStore(pixels, 5, 7)


class CountProducts(TorchDispatchMode):
    """Counts the operations of torch's matrix products by the part that is being timed."""

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.watch, self.flops = watch, Counter[str]()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        result = function(*arguments, **(named or {}))
        if count := flop_registry.get(function._overloadpacket):
            self.flops[self.watch.current] += count(*arguments, **(named or {}), out_val=result)
        return result


def executed(settings: Settings, spec: DataSpec, store: Store) -> Counter[str]:
    """Run an iteration; return its operations by part."""
    state = TrainingState(settings, spec)
    # Without mkldnn, which runs an LSTM in one call, torch splits LSTMs into products.
    no_mkldnn = torch.backends.mkldnn.flags(enabled=False)
    with no_mkldnn, stopwatch(torch.device("cpu")) as watch, CountProducts(watch) as mode:
        iteration(state, batch_sampler(state, store), Parallel())
    flops: Counter[str] = mode.flops
    return flops


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("name", SUBJECTS)
def test_operations_equal_those_that_torch_executes(name: str) -> None:
    settings, spec, store = subject(name)
    seen, expected = executed(settings, spec, store), Counter[str]()
    for each in iteration_parts(settings, spec, WORDS + 1):
        expected[each.within] += int(each.cost.flops)
    assert set(seen) == {part for part, flops in expected.items() if flops}
    for part, flops in expected.items():
        # torch skips the gradient of an LSTM's first state, one step of WORDS + 1, and multiplies by zeros in the
        # penalty's gradient through LeakyReLU.
        zeros = name == "layers" and part == "critic steps"
        assert flops == pytest.approx(seen[part], rel=0.12 if zeros else 0.02), part


def test_published_operations_of_an_iteration() -> None:
    """25.5 GFLOP, without those of the critic and the generator."""
    parts = {p.name: p.cost.flops / 1e9 for p in iteration_parts(preset("paper-snli"), TextSpec(11_000), 9.46)}
    shares = {
        **{"vocabulary projection": 0.47, "decoder LSTM": 0.15, "encoder LSTM": 0.10},
        **{"encodings for the critic": 0.17, "encoder against the critic": 0.10},
    }
    total = sum(parts[name] for name in shares)
    assert total == pytest.approx(25.5, abs=0.1)
    assert {name: parts[name] / total for name in shares} == pytest.approx(shares, abs=0.006)
    assert 0.8 < parts["critic"] < 1.2


@pytest.mark.parametrize("name", SUBJECTS)
def test_parameters_equal_those_of_the_model(name: str) -> None:
    settings, spec, _ = subject(name)
    state = TrainingState(settings, spec)
    counts = {part: sum(p.numel() for p in state.parameters([part])) for part in state.optimizers}
    if "prior" in counts:
        counts["generator"] = counts.pop("prior")
    assert parameters(settings, spec) == counts


def test_a_product_reads_its_matrices_and_writes_its_result_once() -> None:
    assert product(3, 5, 7, 1, 4) == Cost(2 * 3 * 5 * 7, 4 * (3 * 5 + 3 * 7 + (5 + 1) * 7))
    assert product(3, 5, 7, 3, 4) == Cost(3 * 2 * 3 * 5 * 7, 3 * 4 * (3 * 5 + 3 * 7 + 6 * 7))
    assert product(3, 5, 7, 1, 2).bytes == 2 * (3 * 5 + 3 * 7) + 4 * 6 * 7  # weights stay in float32


def updated(values: dict[str, Any]) -> float:
    """Return the numbers that updates read and write."""
    settings = with_settings(preset("paper-snli"), SMALL | values)
    (bytes_,) = (p.cost.bytes for p in iteration_parts(settings, TextSpec(101), 9) if p.name == "updates")
    return bytes_ / 4


def test_bytes_of_updates() -> None:
    numbers = parameters(with_settings(preset("paper-snli"), SMALL), TextSpec(101))
    encoder, decoder = numbers["encoder"], numbers["decoder"]
    others = 7 * (3 * numbers["critic"] + numbers["generator"])
    assert updated({}) == (3 + 3) * (2 * encoder + decoder) + others
    assert updated({"gradient_clip": 0.0}) == 3 * (2 * encoder + decoder) + others
    assert updated({"encoder.updates": "summed"}) == (3 + 3) * (encoder + decoder) + others
    assert updated({"encoder.adversarial_each_critic_step": True}) == (3 + 3) * (4 * encoder + decoder) + others
    adam = {"encoder.optimizer": "adam", "decoder.optimizer": "adam", "critic.objective": "none"}
    assert updated(adam) == (7 + 3) * (encoder + decoder)
    assert updated({"critic.objective": "wgan-clip"}) == updated({}) + 2 * 3 * numbers["critic"]
    assert updated({"generator.average": 0.5}) == updated({}) + 3 * numbers["generator"]


def test_precision_of_parts() -> None:
    settings = with_settings(preset("paper-snli"), {"precision": "bfloat16"})
    on = {
        device: {p.name: p.precision for p in iteration_parts(settings, TextSpec(101), 9, device)}
        for device in ("cpu", "cuda")
    }
    assert on["cpu"]["encoder LSTM"] == on["cpu"]["vocabulary projection"] == "bfloat16"
    assert on["cuda"]["encoder LSTM"] == on["cpu"]["critic"] == "float32"
    assert on["cuda"]["vocabulary projection"] == "bfloat16"
