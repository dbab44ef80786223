"""Which trials Ray Tune stops early, or lets go on from better ones."""

import copy
import math
from collections.abc import Mapping
from typing import Any

from ray.tune.schedulers import ASHAScheduler

from pipelines.engine.space import inside, mutations, own_values, with_tuples
from pipelines.engine.sweep import Sweep


class SparingScheduler(ASHAScheduler):
    """ASHA that lets the trial with the experiment's own settings, which the others are compared with, run to its end.

    At the first rung samples may all be alike still, and what the figure says there is chance.
    """

    def __init__(self, own: Mapping[str, Any], **options: Any) -> None:
        super().__init__(**options)
        self.own = dict(own)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Take in a trial; one of a sweep that is gone on with, for the rungs that it has not come to yet.

        What Ray saves of a sweep leaves the rungs out. In one that the trial has passed, its next score would stand for
        that of many steps ago, and whoever comes there by and by would be stopped for being worse.
        """
        super().on_trial_add(tune_controller, trial)
        step = (trial.run_metadata.last_result or {}).get(self._time_attr, 0)
        bracket = copy.copy(self._trial_info[trial.trial_id])  # the scores of each rung stay those of all
        bracket._rungs = [(at, scores) for at, scores in bracket._rungs if at > step]
        self._trial_info[trial.trial_id] = bracket

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """What becomes of the trial."""
        decision: str = super().on_trial_result(tune_controller, trial, result)
        has = with_tuples(trial.config)  # lists where the sweep was gone on with
        return self.CONTINUE if self.own == {name: has.get(name) for name in self.own} else decision


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
        return SparingScheduler(own, time_attr="step", max_t=total + 1, grace_period=grace, reduction_factor=3)
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
