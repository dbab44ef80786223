"""Which trials are stopped, in a sweep that was gone on with, too."""

import warnings
from types import SimpleNamespace
from typing import Any

from arae_core.tree import flatten
from pipelines.engine.schedulers import SparingScheduler, make_scheduler
from tests.pipelines.engine.conftest import RATES, Make


def trial_of(number: int, config: dict[str, Any], step: int = 0) -> Any:
    """A trial of Ray Tune that has come to a step."""
    last = {"step": step} if step else {}
    return SimpleNamespace(trial_id=str(number), config=config, run_metadata=SimpleNamespace(last_result=last))


def test_schedulers(make_sweep: Make) -> None:
    asha = make_scheduler(make_sweep(RATES, 4, {"iterations": 48, "evaluate_every": 6}, scheduler="asha"))
    assert (asha._time_attr, asha._max_t) == ("step", 49)
    assert [rung for rung, _ in asha._brackets[0]._rungs][-1] == 12  # a quarter of eight evaluations
    pbt = make_scheduler(make_sweep(RATES, 4, scheduler="pbt"))
    assert pbt._time_attr == "step" and set(pbt._hyperparam_mutations) == set(RATES)


def test_the_own_settings_run_to_their_end_whatever_the_others_do(make_sweep: Make) -> None:
    sweep = make_sweep(RATES, 4, {"iterations": 48, "evaluate_every": 6}, scheduler="asha")
    own = {name: flatten(sweep.experiment)[name] for name in RATES}
    scheduler = make_scheduler(sweep)
    scheduler.set_search_properties("generation_perplexity", "min")

    def decided(trial: Any, value: float) -> str:
        return str(scheduler.on_trial_result(None, trial, {"step": 12, "generation_perplexity": value}))

    trials = [trial_of(i, own if i == 0 else {**own, "critic.steps": 10 + i}) for i in range(7)]
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    for i in range(1, 6):
        decided(trials[i], float(i))
    assert decided(trials[6], 100.0) == scheduler.STOP
    assert decided(trials[0], 1000.0) == scheduler.CONTINUE


def test_a_trial_gone_on_with_does_not_count_in_rungs_that_it_has_passed() -> None:
    """At step 700 it has 22, which is no measure for who comes to step 200; at the next rung it counts again."""
    scheduler = SparingScheduler({"x": 0}, time_attr="step", max_t=2000, grace_period=200, reduction_factor=3)
    scheduler.set_search_properties("generation_perplexity", "min")
    gone_on, new, other = trial_of(0, {"x": 1}, step=650), trial_of(1, {"x": 2}), trial_of(2, {"x": 3}, step=600)
    for trial in (gone_on, new, other):
        scheduler.on_trial_add(None, trial)

    def decided(trial: Any, step: int, value: float) -> str:
        return str(scheduler.on_trial_result(None, trial, {"step": step, "generation_perplexity": value}))

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy's, of a rung where nobody counts
        assert decided(gone_on, 700, 22.0) == decided(new, 200, 70.0) == scheduler.CONTINUE
        assert decided(other, 700, 23.0) == scheduler.CONTINUE  # has been judged at 600 as well
    rungs = {at: dict(scores) for at, scores in scheduler._brackets[0]._rungs}
    assert rungs == {1800: {}, 600: {}, 200: {"1": -70.0}}
    assert decided(gone_on, 1800, 12.0) == scheduler.CONTINUE and decided(other, 1800, 13.0) == scheduler.STOP


def test_own_settings_are_the_same_as_lists() -> None:
    """As they come back from Ray's state."""
    scheduler = SparingScheduler({"x": (3, 4)}, time_attr="step", max_t=10, grace_period=1, reduction_factor=3)
    scheduler.set_search_properties("loss", "min")
    other, own = trial_of(0, {"x": (3,)}), trial_of(1, {"x": [3, 4]})
    for trial, value in ((other, 1.0), (own, 2.0)):
        scheduler.on_trial_add(None, trial)
        assert scheduler.on_trial_result(None, trial, {"step": 1, "loss": value}) == scheduler.CONTINUE
