"""Bytes that workers all-reduce in an iteration, and bytes of a checkpoint.

    python benchmarks/traffic.py --presets snli,paper-snli,yelp

Runs one iteration of each preset as the first of two workers would. Needs no Ray.
"""

import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import harness
from pipelines.cli.command_line import Option, emit_json, parse_options
from pipelines.experiment.presets import preset
from pipelines.experiment.settings import Experiment

if TYPE_CHECKING:
    import torch

    from arae_core.data.batches import Store
    from arae_core.training.state import TrainingState

OPTIONS = (
    Option("presets", tuple[str, ...], ("grammar", "snli", "paper-snli", "yelp", "paper-yelp"), "Presets to measure."),
)


def all_reduced(state: "TrainingState", store: "Store") -> dict[str, list[int]]:
    """Return the bytes that a worker passes to each all-reduce of the next iteration, by the parts that are updated.

    (Ranks on one machine may sum them in shared memory instead.) One process acts as the first of two workers and gets
    no answer, so the state is useless afterwards.
    """
    from torch import distributed

    from arae_core import algorithm
    from arae_core.data.batch_sampler import BatchSampler
    from arae_core.runtime import parallel
    from arae_core.runtime.gradient_allreduce import AllReduce
    from arae_core.runtime.parallel import Parallel

    found: dict[str, list[int]] = defaultdict(list)
    updated, update = "", state.update

    def noting_update(parts: Sequence[str], *arguments: Any, **named: Any) -> Any:
        nonlocal updated
        updated = " + ".join(part for part in parts if part in state.optimizers)
        return update(parts, *arguments, **named)

    def noting_all_reduce(flat: "torch.Tensor") -> None:
        found[updated].append(flat.nbytes)

    def make_exchange(rank: int, world: int, size: int, like: "torch.Tensor") -> AllReduce:
        return AllReduce(size, like)

    settings = state.settings
    batches = BatchSampler(store, state.spec, settings.batch_size, settings.seed, rank=0, world=2, device=state.device)
    with (
        patch.object(state, "update", noting_update),
        patch.object(parallel, "make_exchange", make_exchange),
        patch.object(distributed, "all_reduce", noting_all_reduce),
    ):
        algorithm.iteration(state, batches, Parallel(0, 2))
    return dict(found)


def measured(experiment: Experiment) -> dict[str, Any]:
    """Return the bytes of an iteration's all-reduces, of a checkpoint, and of its model without training state."""
    from arae_core.data.batches import TokenStore
    from arae_core.data.data_spec import TextSpec
    from arae_core.training.checkpoint import save_checkpoint
    from arae_core.training.state import TrainingState
    from benchmarks.examples import examples

    store, spec, vocabulary = examples(experiment, None)
    if experiment.data.label and isinstance(store, TokenStore) and isinstance(spec, TextSpec):
        spec = replace(spec, classes=("negative", "positive"))
        store = TokenStore.from_rows(store.rows(range(len(store))), [i % 2 for i in range(len(store))])
    state = TrainingState.new(experiment, spec)
    sent = all_reduced(state, store)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = save_checkpoint(Path(folder, "checkpoint"), state, vocabulary)
        sizes = {file.name: file.stat().st_size for file in checkpoint.rglob("*") if file.is_file()}
    model = sum(size for name, size in sizes.items() if not name.startswith("training."))
    return {"preset": experiment.name, "all_reduced": sent, "checkpoint": sum(sizes.values()), "model": model}


def table_row(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report in megabytes."""
    sizes = [size for each in report["all_reduced"].values() for size in each]
    return {
        "preset": report["preset"],
        **{name: f"{report[name] / 1e6:.1f}" for name in ("checkpoint", "model")},
        "all-reduces": f"{len(sizes)}",
        "all-reduced": f"{sum(sizes) / 1e6:.2f}",
        **{parts: f"{len(each)} x {each[0] / 1e6:.2f}" for parts, each in report["all_reduced"].items()},
    }


@harness.command
def main(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    options = parse_options(words, "Count the bytes that training sends and saves.", OPTIONS)
    reports = [measured(experiment) for experiment in [preset(name) for name in options.presets]]
    if options.json:
        emit_json({"presets": reports})
    else:
        harness.print_rows([table_row(report) for report in reports], "megabytes", width=160)


if __name__ == "__main__":
    sys.exit(main())
