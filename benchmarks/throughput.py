"""How fast the core trains and samples, and where the time goes.

    python benchmarks/throughput.py --config paper-snli
    python benchmarks/throughput.py --config paper-snli --data SENTENCES.txt --peer "python other.py --iterations 60"

Needs no Ray. A peer's command must print, as its last line, a JSON object with ms_per_iteration.
"""

import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from arae_core.settings.checks import at_least, require
from pipelines.cli.command_line import Arguments, Option, parse, run, show
from pipelines.cli.flags import spelled

ITERATIONS = 60
FEEDING_LIMIT = 0.03
"""Largest share of an iteration that feeding may cost."""

OPTIONS = (
    Option("threads", int, 2, "Threads that torch may use."),
    Option("data", Path, None, "Text file of one sentence a line, or a folder with train.txt. Default: synthetic."),
    Option("peer", str, "", "Command to measure in turn with this one."),
    Option("rounds", int, 3, "Turns taken with the peer."),
)


def measured(arguments: Arguments) -> dict[str, Any]:
    """Measure this project in this process."""
    import torch

    from arae_core.runtime.precision import precision_on
    from benchmarks.examples import examples
    from benchmarks.measure import measure

    experiment, options = arguments.experiment, arguments.options
    torch.set_num_threads(options.threads)
    wanted = experiment.device if experiment.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("device must be cpu or auto here, where torch sees no GPU; got 'cuda'")
    store, shape, vocabulary = examples(experiment, options.data)
    about = {
        "config": experiment.name,
        "data": str(options.data or "synthetic"),
        "examples": len(store),
        "batch_size": experiment.batch_size,
        "precision": precision_on(wanted, experiment),
        "threads": options.threads,
        "device": torch.cuda.get_device_name() if wanted == "cuda" else "cpu",
        "torch": torch.__version__,
    }
    iterations = arguments.given.get("iterations") or ITERATIONS
    device, samples = torch.device(wanted), experiment.samples
    return about | measure(experiment, store, shape, vocabulary, iterations=iterations, samples=samples, device=device)


def compared(arguments: Arguments) -> dict[str, Any]:
    """The peer and ours in turn, each in a process of its own; the report is that of our median round."""
    options = arguments.options
    try:
        theirs = shlex.split(options.peer)
    except ValueError as error:
        raise ValueError(f"peer must be a command, got {options.peer!r}: {error}") from None
    ours = [sys.executable, str(Path(__file__).resolve()), "--config", options.config, "--json"]
    ours += [f"--threads={options.threads}", *([f"--data={options.data}"] if options.data else [])]
    ours += [f"--{name}={spelled(value)}" for name, value in arguments.given.items()]
    reports, rounds = [], []
    for turn in range(options.rounds):
        peer = _last_line("peer", theirs)["ms_per_iteration"]  # first: a command that fails does so soon
        reports.append(_last_line("this benchmark", ours))
        mine = reports[-1]["ms_per_iteration"]
        rounds.append({"ours": mine, "peer": peer, "ratio": mine / peer})
        print(f"round {turn + 1}: ours {mine:.1f} ms, peer {peer:.1f} ms, ratio {mine / peer:.3f}", file=sys.stderr)
    reports.sort(key=lambda report: report["ms_per_iteration"])
    ratio = statistics.median(r["ratio"] for r in rounds)
    return reports[len(reports) // 2] | {"peer": {"command": options.peer, "ratio": ratio, "rounds": rounds}}


def _last_line(who: str, command: list[str]) -> dict[str, Any]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ValueError(f"{who} must be a command that can be run, got {shlex.join(command)!r}: {error}") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
        raise ValueError(f"{who} ended with status {done.returncode}: {said}")
    try:
        report: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        require(float(report["ms_per_iteration"]) > 0, "ms_per_iteration", report["ms_per_iteration"], "> 0")
    except (IndexError, KeyError, TypeError, json.JSONDecodeError):
        raise ValueError(f"{who} must print a JSON object with ms_per_iteration as its last line") from None
    return report


def table(report: dict[str, Any]) -> str:
    """The report to read."""
    items = "sentences" if "tokens_per_second" in report else "images"
    lines = [
        "{config}: batch {batch_size}, {precision}, {device}, threads {threads}, torch {torch}".format(**report),
        f"{'data':<16}{report['data']}, {report['examples']:,} {items}",
        "{:<16}{ms_per_iteration:.1f} ms  (80 % between {ms_10th_percentile:.1f} and {ms_90th_percentile:.1f}, "
        "{iterations} iterations)".format("iteration", **report),
        f"{'training':<16}{report['examples_per_second']:,.0f} {items}/s"
        + (f", {report['tokens_per_second']:,.0f} tokens/s" if items == "sentences" else ""),
    ]
    for name, rate in report["sampling"].items():
        words = f", of {report['sampled_words'][name]:.1f} words" if items == "sentences" else ""
        lines += [f"{'sampling':<16}{rate:,.0f} {items}/s {name}{words}"]
    lines += [f"{'peak memory':<16}{report['peak_memory_mb']:,.0f} MB"]
    if "peak_device_memory_mb" in report:
        lines += [f"{'':<16}{report['peak_device_memory_mb']:,.0f} MB on the device"]
    lines += ["", f"{'part':<16}{'ms':>8}{'share':>10}"]
    for name, part in report["parts"].items():
        over = f"  over {FEEDING_LIMIT:.0%}" if name == "feeding" and part["share"] > FEEDING_LIMIT else ""
        lines += [f"{name:<16}{part['ms']:>8.2f}{part['share']:>10.1%}{over}"]
    if "peer" in report:
        lines += ["", f"{'round':<8}{'ours ms':>12}{'peer ms':>12}{'ratio':>10}"]
        for turn, result in enumerate(report["peer"]["rounds"], 1):
            lines += [f"{turn:<8}{result['ours']:>12.1f}{result['peer']:>12.1f}{result['ratio']:>10.3f}"]
        lines += [f"{'median':<32}{report['peer']['ratio']:>10.3f}"]
    return "\n".join(lines)


def body(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    arguments = parse(words, "Measure how fast an experiment trains and samples.", OPTIONS, config="paper-snli")
    at_least("threads", arguments.options.threads, 1)
    at_least("rounds", arguments.options.rounds, 1)
    report = compared(arguments) if arguments.options.peer else measured(arguments)
    show(report, table, arguments.options)


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
