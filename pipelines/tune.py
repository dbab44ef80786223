"""Search the hyperparameters that training is sensitive to, and register the best model.

    python pipelines/tune.py --config grammar --space stability --trials 6 --scheduler asha
    python pipelines/tune.py --resume NAME

Without arguments it does the first of these. The first trial always has the preset's own settings. Trials with several
workers (--workers 2) train as in train.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a script: put the repository, not pipelines/, first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.cli.command_line import Option, emit_json, parse, run
from pipelines.experiment.errors import FailedError

SCHEDULERS, SEARCHES = ("asha", "pbt", "none"), ("random", "optuna")
OPTIONS = (
    Option("space", str, "stability", "Search space: a file of tune_spaces/."),
    Option("trials", int, 6, "Number of trials. The first one has the preset's own settings."),
    Option("scheduler", str, "asha", "asha stops bad trials early; pbt restarts them from good ones.", SCHEDULERS),
    Option("search", str, "random", "Search algorithm.", SEARCHES),
    Option("resume", str, "", "Name of a sweep to resume, with all its settings."),
    Option("run_name", str, "", "Name of the sweep (default: the preset, the space and the time)."),
    Option("gpus_per_trial", float, 0.0, "GPUs of a trial, also a fraction; 0: one a worker if there are GPUs."),
    Option("max_concurrent", int, 0, "Maximum number of trials that run at once; 0: as many as fit."),
)


def tune(arguments: Sequence[str] | None) -> None:
    parsed = parse(arguments, "Search the hyperparameters that training is sensitive to.", OPTIONS)
    from pipelines.reporting import display, plots, summary
    from pipelines.runtime import cluster
    from pipelines.sweeps.sweep import open_sweep

    console = display.make_console()
    sweep = open_sweep(parsed, cluster.writable(parsed.options.storage))
    experiment, uri, metric = sweep.experiment, sweep.tracking_uri, sweep.selection[0]
    console.print("\n".join(sweep.corpus.summary()))
    assert sweep.session is not None
    with sweep.session as session:
        with session.start_ray(console, drivers=sweep.drivers, dashboard=sweep.needs_dashboard) as room:
            from pipelines.sweeps.search import run_sweep

            console.print(
                f"sweep {sweep.name}: {sweep.options['trials']} trials of {sweep.iterations} iterations, "
                f"{sweep.concurrent_trials(room)} at a time on {room}; the first has the preset's own settings",
                soft_wrap=True,
            )
            with display.TrialsDisplay(console, metric) as progress:
                found = run_sweep(sweep, room, progress.show, summary.trial_closer(uri))
        console.print(display.leaderboard(found.rows, metric, f"sweep {sweep.name}, best first"))
        console.print(display.settings_table(found.rows, list(sweep.space)))
        rows = [{name: str(v) if isinstance(v, Path) else v for name, v in row.items()} for row in found.rows]
        session.tracker.artifact("leaderboard.json", rows)
        if found.best is None:
            raise FailedError("no trial reached its first evaluation; the leaderboard shows how each one ended")
        best, checkpoint = found.best, found.best["checkpoint"]
        if warning := summary.content_warning(found.rows, best):
            console.print(warning, soft_wrap=True)
        registered = summary.register_once(
            experiment, checkpoint, best, uri, best["run_id"], sweep.corpus.fingerprint, console, session.named.file
        )
        summary.show_model(checkpoint, experiment.seed, console, session.tracker)
        curves = plots.read_curves(uri, best["run_id"])
        figure = plots.sweep_figure(curves, found.rows, metric, best["trial"], sweep.space)
        picture = session.save_figure("sweep.png", figure)
        session.tracker.artifact("data.json", sweep.corpus.report)
    console.print(f"\npicture: {picture}")
    console.print(f"next: {summary.next_command(checkpoint, registered, uri, experiment.kind)}", soft_wrap=True)
    if parsed.options.json:
        metrics = {name: value for name, value in best.items() if isinstance(value, (int, float))}
        results = {"run_id": session.run_id, "checkpoint": str(checkpoint), "metrics": metrics, "name": sweep.name}
        model = {"model_version": registered.version, "model": registered.name, "alias": registered.alias}
        emit_json({**results, **model, "trials": rows})


def main(arguments: Sequence[str] | None = None) -> int:
    return run(tune, arguments)


if __name__ == "__main__":
    sys.exit(main())
