"""Sampling speed of a trained model: the time to generate samples as text (or images), detokenised.

    python benchmarks/sampling.py --model runs/trainings/NAME/checkpoint_000003 --count 100000

MODEL is a folder: a training checkpoint or an exported model. Needs no Ray.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from arae_core.settings.checks import at_least, one_of
from benchmarks import harness
from pipelines.cli.command_line import Option, parse_options, show

if TYPE_CHECKING:
    from arae_core.model import Model

WARM_UP = 2_000
PRECISIONS = ("bfloat16", "float32")
OPTIONS = (
    Option("model", Path, None, "Folder of a model or a checkpoint.", required=True),
    Option("count", int, 100_000, "Number of samples."),
    Option("temperatures", tuple[float, ...], (0.0, 1.0), "Sampling temperatures; 0 is greedy."),
    Option("precisions", tuple[str, ...], PRECISIONS, "Precisions to compare: bfloat16, float32."),
    Option("device", str, "cpu", "Device to sample on.", ("cpu", "cuda")),
    harness.THREADS,
)


def measured(options: Any) -> dict[str, Any]:
    """Measure every precision and temperature, each after a few untimed samples."""
    import torch

    from arae_core.model import Model
    from arae_core.runtime.precision import lstm_runs_in_bfloat16

    torch.set_num_threads(options.threads)
    device = harness.device_named(options.device)
    model, rows = Model.load(options.model, device), []
    for precision in options.precisions:
        if precision == "bfloat16" and model.kind == "text" and not lstm_runs_in_bfloat16(device.type):
            print("bfloat16 is skipped: this processor cannot run LSTMs in it", file=sys.stderr)
            continue
        model.state.precision = precision
        rows += [
            {"precision": precision, "temperature": temperature} | _timed(model, options.count, temperature)
            for temperature in options.temperatures
        ]
    facts = {"model": str(options.model), "step": model.state.step, "count": options.count}
    facts |= {"device": harness.device_title(device), "threads": options.threads, "torch": torch.__version__}
    return facts | {"rows": rows}


def _timed(model: "Model", count: int, temperature: float) -> dict[str, float]:
    model.generate(min(count, WARM_UP), seed=1, temperature=temperature)
    started = time.perf_counter()
    samples = model.generate(count, temperature=temperature)
    seconds = time.perf_counter() - started
    distinct = len({sample if isinstance(sample, str) else sample.tobytes() for sample in samples})
    row = {"seconds": seconds, "per_second": count / seconds, "distinct": distinct / count}
    if model.kind == "text":
        row["words"] = sum(len(str(sample).split()) for sample in samples) / count
    return row


def table(report: dict[str, Any]) -> str:
    """Format the report."""
    lines = ["{model}, step {step}: {count:,} samples, {device}, threads {threads}, torch {torch}".format(**report)]
    lines += [f"{'precision':<12}{'temperature':>12}{'seconds':>10}{'per second':>12}{'words':>8}{'distinct':>10}"]
    for row in report["rows"]:
        words = f"{row['words']:.1f}" if "words" in row else ""
        times = "{precision:<12}{temperature:>12g}{seconds:>10.1f}{per_second:>12,.0f}".format(**row)
        lines += [f"{times}{words:>8}{row['distinct']:>10.3f}"]
    return "\n".join(lines)


@harness.command
def main(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    options = parse_options(words, "Measure how fast a trained model generates samples.", OPTIONS)
    at_least("count", options.count, 1)
    at_least("threads", options.threads, 1)
    for precision in options.precisions:
        one_of("precisions", precision, PRECISIONS)
    for temperature in options.temperatures:
        at_least("temperatures", temperature, 0.0)
    show(measured(options), table, options)


if __name__ == "__main__":
    sys.exit(main())
