"""Speed of training and sampling, and the time of each part of an iteration.

    python benchmarks/throughput.py --config paper-snli
    python benchmarks/throughput.py --config paper-snli --data SENTENCES.txt --peer "python other.py --iterations 60"

Needs no Ray. A peer is another implementation: a command whose last line is a JSON object with ms_per_iteration.
"""

import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import harness
from pipelines.cli.command_line import Arguments, Option, show

ITERATIONS = 60
FEEDING_LIMIT = 0.03
"""Largest acceptable share of an iteration spent on feeding data."""

OPTIONS = (
    harness.THREADS,
    harness.DATA,
    Option("peer", str, "", "Command of another implementation to measure alternately with this one."),
    Option("rounds", int, 3, "Times that both are measured."),
)


def measured(arguments: Arguments) -> dict[str, Any]:
    """Measure this project in this process."""
    from benchmarks.examples import examples
    from benchmarks.measure import measure

    experiment, options = arguments.experiment, arguments.options
    device, facts = harness.set_up(arguments)
    store, spec, vocabulary = examples(experiment, options.data)
    facts |= {"data": str(options.data or "synthetic"), "examples": len(store)}
    iterations, samples = harness.iterations_of(arguments, ITERATIONS), experiment.samples
    return facts | measure(experiment, store, spec, vocabulary, iterations=iterations, samples=samples, device=device)


def compared(arguments: Arguments) -> dict[str, Any]:
    """Measure the peer and this project alternately, each in a new process; return our report of the median round."""
    options = arguments.options
    try:
        peer = shlex.split(options.peer)
    except ValueError as error:
        raise ValueError(f"peer must be a command, got {options.peer!r}: {error}") from None
    ours = [sys.executable, str(Path(__file__).resolve()), "--config", options.config, "--json"]
    ours += [f"--threads={options.threads}", *([f"--data={options.data}"] if options.data else [])]
    ours += harness.setting_flags(arguments)
    reports, rounds = [], []
    for i in range(options.rounds):
        peer_ms = _ms(harness.last_json("peer", peer))  # first, so that a wrong command fails at once
        reports.append(harness.last_json("this benchmark", ours))
        our_ms = _ms(reports[-1])
        rounds.append({"ours": our_ms, "peer": peer_ms, "ratio": our_ms / peer_ms})
        print(
            f"round {i + 1}: ours {our_ms:.1f} ms, peer {peer_ms:.1f} ms, ratio {our_ms / peer_ms:.3f}", file=sys.stderr
        )
    reports.sort(key=_ms)
    ratio = statistics.median(r["ratio"] for r in rounds)
    return reports[len(reports) // 2] | {"peer": {"command": options.peer, "ratio": ratio, "rounds": rounds}}


def _ms(report: dict[str, Any]) -> float:
    try:
        ms = float(report["ms_per_iteration"])
    except (KeyError, TypeError, ValueError):
        ms = 0.0
    if not ms > 0:
        raise ValueError(f"peer must print ms_per_iteration > 0, got {report}")
    return ms


def table(report: dict[str, Any]) -> str:
    """Format the report."""
    items = "sentences" if "tokens_per_second" in report else "images"
    lines = [
        harness.HEADER.format(**report),
        f"{'data':<16}{report['data']}, {report['examples']:,} {items}",
        "{:<16}{ms_per_iteration:.1f} ms  (80 % between {ms_10th_percentile:.1f} and {ms_90th_percentile:.1f}, "
        "{iterations} iterations)".format("iteration", **report),
        f"{'training':<16}{report['examples_per_second']:,.0f} {items}/s"
        + (f", {report['tokens_per_second']:,.0f} tokens/s" if items == "sentences" else ""),
    ]
    for name, rate in report["sampling"].items():
        words = f", {report['sampled_words'][name]:.1f} words each" if items == "sentences" else ""
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
        for i, result in enumerate(report["peer"]["rounds"], 1):
            lines += [f"{i:<8}{result['ours']:>12.1f}{result['peer']:>12.1f}{result['ratio']:>10.3f}"]
        lines += [f"{'median':<32}{report['peer']['ratio']:>10.3f}"]
    return "\n".join(lines)


@harness.command
def main(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    arguments = harness.parse(words, "Measure how fast an experiment trains and samples.", OPTIONS, "paper-snli")
    show(compared(arguments) if arguments.options.peer else measured(arguments), table, arguments.options)


if __name__ == "__main__":
    sys.exit(main())
