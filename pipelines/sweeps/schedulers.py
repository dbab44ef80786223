"""Schedulers: which trials Ray Tune stops early, or continues from better ones."""

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune.schedulers import ASHAScheduler

from pipelines.runtime.ray_internals import asha_rungs, last_result, skip_passed_rungs
from pipelines.runtime.run_record import read_record, write_record
from pipelines.sweeps.search_space import inside, mutations, own_values, with_tuples
from pipelines.sweeps.sweep import Sweep


class ResumableASHA(ASHAScheduler):
    """ASHA that never stops the baseline trial, and whose rungs survive a restart of the sweep.

    The baseline has the experiment's own settings, with which all others are compared. At the first rung, trials may
    still be alike, and their scores noise.

    Ray does not save rungs: a resumed sweep starts with the scheduler as it was at the beginning. The rungs are saved
    in a file, so that trials are also compared with those that reached a rung before the restart.
    """

    def __init__(self, own: Mapping[str, Any], file: Path, **options: Any) -> None:
        """own: the searched values of the baseline. file: of the rungs. options: of ASHAScheduler."""
        super().__init__(**options)
        self.own, self.file = dict(own), file
        self.stopped: set[str] = set()

    @property
    def rungs(self) -> dict[str, dict[str, float]]:
        """Step -> trial id -> score, higher is better."""
        return asha_rungs(self)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Read the saved rungs. Ray Tune calls this at every start, before there are trials."""
        record = read_record(self.file) or {"rungs": {}, "stopped": []}
        for step, scores in self.rungs.items():
            scores.update(record["rungs"].get(step, {}))
        self.stopped = set(record["stopped"])
        return bool(super().set_search_properties(metric, mode, **spec))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Add a trial; compare a resumed one only at rungs that it has not passed.

        If the file could not be written, a passed rung lacks the trial's score. Its next score would then enter that
        rung although it is many steps older, and later trials would be stopped unfairly.
        """
        super().on_trial_add(tune_controller, trial)
        skip_passed_rungs(self, trial.trial_id, last_result(trial).get(self._time_attr, 0))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return STOP or CONTINUE.

        A trial that was stopped just before a crash, which Ray did not record, is stopped again: its scores are in the
        rungs already.
        """
        if trial.trial_id in self.stopped:
            return str(self.STOP)
        before = sum(map(len, self.rungs.values()))
        decision: str = super().on_trial_result(tune_controller, trial, result)
        values = with_tuples(trial.config)  # a resumed sweep has lists
        if self.own == {name: values.get(name) for name in self.own}:
            decision = self.CONTINUE
        if decision == self.STOP:
            self.stopped.add(trial.trial_id)
        if sum(map(len, self.rungs.values())) > before:
            with contextlib.suppress(OSError):  # the sweep continues on a full disk
                write_record(self.file, {"rungs": self.rungs, "stopped": sorted(self.stopped)})
        return decision


def make_scheduler(sweep: Sweep) -> Any:
    """Return the scheduler of a sweep: asha, pbt, or one that runs all trials to their end."""
    from ray.tune.schedulers import FIFOScheduler, PopulationBasedTraining

    every, total = sweep.experiment.evaluate_every, sweep.iterations
    evaluations = math.ceil(total / every)
    if sweep.options["scheduler"] == "asha":
        # The first rung is at a quarter of the run: adversarial training often gets worse before it gets better.
        # max_t is after the end, so that a trial ends by itself and is not stopped in its last report.
        grace = min(every * math.ceil(evaluations / 4), total)
        own = own_values(sweep.space, sweep.experiment)
        options = {"time_attr": "step", "max_t": total + 1, "grace_period": grace, "reduction_factor": 3}
        return ResumableASHA(own, sweep.folder / "rungs.json", **options)
    if sweep.options["scheduler"] == "pbt":
        mutated = mutations(sweep.space)
        return PopulationBasedTraining(
            "step",
            perturbation_interval=every * max(1, evaluations // 5),
            hyperparam_mutations=mutated,
            custom_explore_fn=inside({name: sweep.space[name] for name in mutated}),
            log_config=False,
        )
    return FIFOScheduler()  # type: ignore[no-untyped-call]
