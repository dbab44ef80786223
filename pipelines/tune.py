"""Search the settings that training is sensitive to, and register the best model found.

python pipelines/tune.py --config grammar --space stability --trials 6 --scheduler asha
python pipelines/tune.py --resume NAME

Without arguments it does the first of these. The configuration's own settings are always the first trial. Trials of
several workers (--workers 2) train together as in train.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a script: the repository, not pipelines/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.cli.command_line import Option, emit_json, parse, run
from pipelines.experiment.environment import default_tracking_uri
from pipelines.experiment.errors import FailedError

SCHEDULERS, SEARCHES = ("asha", "pbt", "none"), ("random", "optuna")
OPTIONS = (
    Option("space", str, "stability", "What to search: a file of tune_spaces/."),
    Option("trials", int, 6, "Trials, the first of them with the configuration's own settings."),
    Option("scheduler", str, "asha", "Stop worse trials early, restart them from better ones, or neither.", SCHEDULERS),
    Option("search", str, "random", "How settings are chosen.", SEARCHES),
    Option("resume", str, "", "Name of a sweep to go on with, everything else as it was."),
    Option("run_name", str, "", "Name of the sweep (default: the configuration, the space and the time)."),
    Option("gpus_per_trial", float, 0.0, "GPUs of a trial, also a part of one; 0: one a worker where there are any."),
    Option("max_concurrent", int, 0, "Trials at a time at most; 0: as many as fit."),
)


def tune(arguments: Sequence[str] | None) -> None:
    asked = parse(arguments, "Search the settings that training is sensitive to.", OPTIONS)
    options = asked.options
    from pipelines.reporting import display, plots, summary
    from pipelines.runtime import cluster
    from pipelines.runtime.preflight import check_shared
    from pipelines.sweeps.sweep import open_sweep
    from pipelines.tracking.runs import Tracker
    from pipelines.tracking.status import end_children

    console = display.make_console()
    sweep = open_sweep(asked, cluster.writable(options.storage))
    experiment, uri, metric, searched = sweep.experiment, sweep.tracking_uri, sweep.selection[0], list(sweep.space)
    console.print("\n".join(sweep.corpus.summary()))
    tracker, status = Tracker(uri, sweep.run_id), "FAILED"
    try:
        console.print("starting Ray")
        with cluster.running(drivers=sweep.drivers, dashboard=sweep.needs_dashboard) as room:
            from pipelines.sweeps.search import run_sweep

            check_shared(sweep.folder, uri)
            console.print(
                f"sweep {sweep.name}: {sweep.options['trials']} trials of {sweep.iterations} iterations, "
                f"{sweep.concurrent_trials(room)} at a time on {room}; the first has the settings of {experiment.name} itself",
                soft_wrap=True,
            )
            with display.TrialsDisplay(console, metric) as shown:
                found = run_sweep(sweep, room, shown.show, summary.trial_closer(uri))
        console.print(display.leaderboard(found.rows, metric, f"sweep {sweep.name}, best first"))
        console.print(display.settings_table(found.rows, searched))
        rows = [{name: str(v) if isinstance(v, Path) else v for name, v in row.items()} for row in found.rows]
        tracker.artifact("leaderboard.json", rows)
        if found.best is None:
            raise FailedError("no trial came to its first evaluation; the leaderboard says what became of them")
        best = found.best
        if warning := summary.content_warning(found.rows, best):
            console.print(warning, soft_wrap=True)
        registered = summary.register_once(
            experiment, best["checkpoint"], best, uri, best["run_id"], sweep.corpus.fingerprint, console, sweep.file
        )
        summary.show_model(best["checkpoint"], experiment.seed, console, tracker)
        curves = plots.read_curves(uri, best["run_id"])
        picture = sweep.folder / "sweep.png"
        figure = plots.sweep_figure(curves, found.rows, metric, best["trial"], sweep.space)
        figure.savefig(picture, dpi=120)
        tracker.figure("sweep.png", figure)
        tracker.artifact("data.json", sweep.corpus.report)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise KeyboardInterrupt(sweep.again(options)) from None
    finally:
        if status != "FINISHED":  # Tune tells of no trial that it did not bring to its end
            end_children(uri, sweep.run_id, "KILLED")
        tracker.finish(status)
        sweep.release()
    console.print(f"\npicture: {picture}")
    elsewhere = "" if uri == default_tracking_uri() else uri
    next_command = summary.next_command(best["checkpoint"], registered, elsewhere, experiment.kind)
    console.print(f"next: {next_command}", soft_wrap=True)
    if options.json:
        emit_json(
            {
                "run_id": sweep.run_id,
                "checkpoint": str(best["checkpoint"]),
                "metrics": {name: value for name, value in best.items() if isinstance(value, (int, float))},
                "model_version": registered.version,
                "model": registered.name,
                "alias": registered.alias,
                "name": sweep.name,
                "trials": rows,
            }
        )


def main(arguments: Sequence[str] | None = None) -> int:
    return run(tune, arguments)


if __name__ == "__main__":
    sys.exit(main())
