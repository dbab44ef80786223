"""Which trials Ray Tune stops early, or lets go on from better ones."""

import contextlib
import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune.schedulers import ASHAScheduler

from pipelines.runtime.run_record import read_record, write_record
from pipelines.sweeps.search_space import inside, mutations, own_values, with_tuples
from pipelines.sweeps.sweep import Sweep


class SparingScheduler(ASHAScheduler):
    """ASHA that lets the trial with the experiment's own settings, which the others are compared with, run to its end.

    At the first rung samples may all be alike still, and what the figure says there is chance.

    Ray keeps no rungs, and goes on with a sweep with the scheduler as it was at the beginning. So they are kept in a
    file: whoever comes to a rung is compared with those of before, too.
    """

    def __init__(self, own: Mapping[str, Any], file: Path, **options: Any) -> None:
        super().__init__(**options)
        self.own, self.file = dict(own), file
        self.stopped: set[str] = set()

    @property
    def rungs(self) -> dict[str, dict[str, float]]:
        """Step -> trial -> score, where more is better."""
        return {str(at): scores for at, scores in self._brackets[0]._rungs}

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """What is to be compared; called at every start, before there are trials."""
        record = read_record(self.file) or {"rungs": {}, "stopped": []}
        for at, scores in self.rungs.items():
            scores.update(record["rungs"].get(at, {}))
        self.stopped = set(record["stopped"])
        return bool(super().set_search_properties(metric, mode, **spec))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Take in a trial; one of a sweep that is gone on with, for the rungs that it has not come to yet.

        Where the file could not be written, a rung lacks a trial that has passed it. Its next score would stand for
        that of many steps ago, and whoever comes there by and by would be stopped for being worse.
        """
        super().on_trial_add(tune_controller, trial)
        step = (trial.run_metadata.last_result or {}).get(self._time_attr, 0)
        bracket = copy.copy(self._trial_info[trial.trial_id])  # the scores of each rung stay those of all
        bracket._rungs = [(at, scores) for at, scores in bracket._rungs if at > step]
        self._trial_info[trial.trial_id] = bracket

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """What becomes of the trial. One that was stopped, which Ray had not written down when it was killed, is
        stopped again: it has its scores, and would not be judged by them a second time."""
        if trial.trial_id in self.stopped:
            return str(self.STOP)
        before = sum(map(len, self.rungs.values()))
        decision: str = super().on_trial_result(tune_controller, trial, result)
        has = with_tuples(trial.config)  # lists where the sweep was gone on with
        if self.own == {name: has.get(name) for name in self.own}:
            decision = self.CONTINUE
        if decision == self.STOP:
            self.stopped.add(trial.trial_id)
        if sum(map(len, self.rungs.values())) > before:
            with contextlib.suppress(OSError):  # a full disk: the sweep goes on
                write_record(self.file, {"rungs": self.rungs, "stopped": sorted(self.stopped)})
        return decision


def make_scheduler(sweep: Sweep) -> Any:
    """asha stops the worse trials early, pbt lets them go on from better ones, none lets all run to their end."""
    from ray.tune.schedulers import FIFOScheduler, PopulationBasedTraining

    every, total = sweep.experiment.evaluate_every, sweep.iterations
    evaluations = math.ceil(total / every)
    if sweep.options["scheduler"] == "asha":
        # A quarter of the run before anything is judged: adversarial training is often worst before it gets good. The
        # limit lies past the end, so that a trial ends by itself and not in its last report.
        grace = min(every * math.ceil(evaluations / 4), total)
        own = own_values(sweep.space, sweep.experiment)
        options = {"time_attr": "step", "max_t": total + 1, "grace_period": grace, "reduction_factor": 3}
        return SparingScheduler(own, sweep.folder / "rungs.json", **options)
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
