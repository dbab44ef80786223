"""How long a trained model takes to write so many sentences (or images), as text, detokenised.

    python benchmarks/sampling.py --model runs/trainings/NAME/checkpoint_000003 --count 100000

MODEL is a folder: a checkpoint of a training, or a model that was exported. Needs no Ray.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from arae_core.settings.checks import at_least, one_of, require
from pipelines.cli.command_line import Option, parse_options, run, show

WARM_UP = 2_000
PRECISIONS = ("bfloat16", "float32")
OPTIONS = (
    Option("model", Path, None, "Folder of a model or a checkpoint."),
    Option("count", int, 100_000, "Samples to draw."),
    Option("temperatures", tuple[float, ...], (0.0, 1.0), "How they are drawn: 0 greedily, 1 from the distribution."),
    Option("precisions", tuple[str, ...], PRECISIONS, "In which precisions: bfloat16, float32."),
    Option("device", str, "cpu", "cpu or cuda."),
    Option("threads", int, 2, "Threads that torch may use."),
)


def measured(options: Any) -> dict[str, Any]:
    """A row for each precision and temperature. Each is drawn a little before the clock runs."""
    import torch

    from arae_core.model import Model
    from arae_core.runtime.precision import lstm_runs_in_bfloat16

    torch.set_num_threads(options.threads)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device must be cpu here, where torch sees no GPU; got 'cuda'")
    model, rows = Model.load(options.model, options.device), []
    for precision in options.precisions:
        if precision == "bfloat16" and model.kind == "text" and not lstm_runs_in_bfloat16(options.device):
            print("bfloat16 is left out: this processor cannot run LSTMs in it", file=sys.stderr)
            continue
        model.state.precision = precision
        for temperature in options.temperatures:
            model.generate(min(options.count, WARM_UP), seed=1, temperature=temperature)
            started = time.perf_counter()
            drawn = model.generate(options.count, temperature=temperature)
            seconds = time.perf_counter() - started
            row = {"precision": precision, "temperature": temperature, "seconds": seconds}
            row |= {"per_second": options.count / seconds, "distinct": len(set(map(_hashable, drawn))) / len(drawn)}
            if model.kind == "text":
                row["words"] = sum(len(str(each).split()) for each in drawn) / len(drawn)
            rows.append(row)
    device = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    about = {"model": str(options.model), "step": model.state.step, "count": options.count, "device": device}
    return about | {"threads": options.threads, "torch": torch.__version__, "rows": rows}


def _hashable(sample: Any) -> Any:
    return sample if isinstance(sample, str) else sample.tobytes()


def table(report: dict[str, Any]) -> str:
    """The report to read."""
    lines = ["{model}, step {step}: {count:,} samples, {device}, threads {threads}, torch {torch}".format(**report)]
    lines += [f"{'precision':<12}{'temperature':>12}{'seconds':>10}{'a second':>12}{'words':>8}{'distinct':>10}"]
    for row in report["rows"]:
        words = f"{row['words']:.1f}" if "words" in row else ""
        what = "{precision:<12}{temperature:>12g}{seconds:>10.1f}{per_second:>12,.0f}".format(**row)
        lines += [f"{what}{words:>8}{row['distinct']:>10.3f}"]
    return "\n".join(lines)


def body(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    options = parse_options(words, "Measure how long a trained model takes to write.", OPTIONS)
    require(options.model is not None, "model", options.model, "the folder of a model or a checkpoint")
    at_least("count", options.count, 1)
    at_least("threads", options.threads, 1)
    one_of("device", options.device, ("cpu", "cuda"))
    for precision in options.precisions:
        one_of("precisions", precision, PRECISIONS)
    for temperature in options.temperatures:
        at_least("temperatures", temperature, 0.0)
    report = measured(options)
    show(report, table, options)


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
