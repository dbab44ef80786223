"""What training sends and keeps: bytes that workers all-reduce in an iteration, and bytes of a checkpoint.

    python benchmarks/traffic.py --presets snli,paper-snli,yelp

One iteration of each preset, as the first of two workers would do it. Needs no Ray.
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

from pipelines.cli.command_line import Option, emit_json, parse_options, run
from pipelines.experiment.presets import preset
from pipelines.experiment.settings import Experiment

if TYPE_CHECKING:
    import torch

    from arae_core.data.batches import Store
    from arae_core.training.state import TrainingState

OPTIONS = (Option("presets", tuple[str, ...], ("grammar", "snli", "paper-snli", "yelp", "paper-yelp"), "Which ones."),)


def all_reduced(state: "TrainingState", store: "Store") -> dict[str, list[int]]:
    """Bytes that a worker hands to each all-reduce of the next iteration, in their order, by the parts updated. (Ranks
    on one machine may sum them in memory that they share instead.)

    One process takes the place of the first of two workers and gets no answer: the state is of no use afterwards.
    """
    from torch import distributed

    from arae_core import algorithm
    from arae_core.data.batch_sampler import BatchSampler
    from arae_core.runtime import parallel
    from arae_core.runtime.gradient_allreduce import AllReduce
    from arae_core.runtime.parallel import Parallel

    found: dict[str, list[int]] = defaultdict(list)
    updated: list[str] = []
    update = state.update

    def noted(parts: Sequence[str], *arguments: Any) -> Any:
        updated[:] = [" + ".join(parts)]
        return update(parts, *arguments)

    def reduced(flat: "torch.Tensor") -> None:
        found[updated[0]].append(flat.nbytes)

    def made(rank: int, world: int, size: int, like: "torch.Tensor") -> AllReduce:
        return AllReduce(size, like)

    settings = state.settings
    feed = BatchSampler(store, state.spec, settings.batch_size, settings.seed, rank=0, world=2, device=state.device)
    with (
        patch.object(state, "update", noted),
        patch.object(parallel, "make_exchange", made),
        patch.object(distributed, "all_reduce", reduced),
    ):
        algorithm.iteration(state, feed, Parallel(0, 2))
    return dict(found)


def measured(experiment: Experiment) -> dict[str, Any]:
    """Bytes of an iteration's all-reduces, of a checkpoint, and of that part of it which a registered model keeps."""
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
    """Megabytes."""
    sizes = [size for each in report["all_reduced"].values() for size in each]
    return {
        "preset": report["preset"],
        **{name: f"{report[name] / 1e6:.1f}" for name in ("checkpoint", "model")},
        "all-reduces": f"{len(sizes)}",
        "all-reduced": f"{sum(sizes) / 1e6:.2f}",
        **{parts: f"{len(each)} x {each[0] / 1e6:.2f}" for parts, each in report["all_reduced"].items()},
    }


def body(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    options = parse_options(words, "Count what training sends and keeps.", OPTIONS)
    reports = [measured(experiment) for experiment in [preset(name) for name in options.presets]]
    if options.json:
        emit_json({"presets": reports})
    else:
        from rich.console import Console

        from pipelines.reporting.display import rows_table

        Console(width=160, highlight=False).print(rows_table([table_row(report) for report in reports], "megabytes"))


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
