"""Schedulers: which trials are stopped, also in a resumed sweep."""

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle

from pipelines.sweeps.schedulers import ResumableASHA, make_scheduler
from pipelines.sweeps.search_space import own_values
from pipelines.sweeps.sweep import Sweep
from tests.pipelines.small import RATES, Make

METRIC = "generation_perplexity"


def trial_of(number: int, config: dict[str, Any], step: int = 0) -> Any:
    """Return a trial of Ray Tune that has reported this step."""
    last = {"step": step} if step else {}
    return SimpleNamespace(trial_id=str(number), config=config, run_metadata=SimpleNamespace(last_result=last))


def start(scheduler: Any, trials: list[Any]) -> Callable[..., str]:
    """Start a scheduler with these trials; return decide(trial, score)."""
    scheduler.set_search_properties(METRIC, "min")
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    return lambda trial, value, step=12: str(scheduler.on_trial_result(None, trial, {"step": step, METRIC: value}))


@pytest.fixture
def asha(make_sweep: Make) -> Sweep:
    """A sweep of eight evaluations."""
    return make_sweep(RATES, 8, {"iterations": 48, "evaluate_every": 6}, scheduler="asha")


def test_asha_stops_all_but_a_third_and_never_the_baseline(asha: Sweep) -> None:
    """The first rung is at a quarter of the run."""
    scheduler = make_scheduler(asha)
    assert (scheduler._time_attr, scheduler._max_t) == ("step", 49)
    assert list(scheduler.rungs)[-1] == "12"
    own = own_values(RATES, asha.experiment)
    trials = [trial_of(i, own if i == 0 else {**own, "critic.steps": 10 + i}) for i in range(11)]
    decide = start(scheduler, trials)
    decisions = [decide(trials[i], 10.0 - (i == 9) * 6 + i) for i in range(1, 10)]
    assert decisions[8] == scheduler.CONTINUE, "the third best"
    assert decisions[7] == decisions[6] == scheduler.STOP
    assert decide(trials[10], 100.0) == scheduler.STOP
    assert decide(trials[0], 1000.0) == scheduler.CONTINUE


def test_a_resumed_trial_does_not_count_in_rungs_that_it_has_passed(tmp_path: Path) -> None:
    """Its score of 22 at step 700 says nothing about trials at step 200. At the next rung it counts again."""
    options = {"time_attr": "step", "max_t": 2000, "grace_period": 200, "reduction_factor": 3}
    scheduler = ResumableASHA({"x": 0}, tmp_path / "rungs.json", **options)
    resumed, new, other = trial_of(0, {"x": 1}, step=650), trial_of(1, {"x": 2}), trial_of(2, {"x": 3}, step=600)
    decide = start(scheduler, [resumed, new, other])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of numpy, for an empty rung
        assert decide(resumed, 22.0, 700) == decide(new, 70.0, 200) == scheduler.CONTINUE
        assert decide(other, 23.0, 700) == scheduler.CONTINUE, "it was judged at step 600"
    assert scheduler.rungs == {"1800": {}, "600": {}, "200": {"1": -70.0}}
    assert decide(resumed, 12.0, 1800) == scheduler.CONTINUE and decide(other, 13.0, 1800) == scheduler.STOP


def test_the_baseline_is_recognized_by_lists(tmp_path: Path) -> None:
    """Ray's state has lists instead of tuples."""
    options = {"time_attr": "step", "max_t": 10, "grace_period": 1, "reduction_factor": 3}
    scheduler = ResumableASHA({"x": (3, 4)}, tmp_path / "rungs.json", **options)
    other, own = trial_of(0, {"x": (3,)}), trial_of(1, {"x": [3, 4]})
    decide = start(scheduler, [other, own])
    assert [decide(other, 1.0, 1), decide(own, 2.0, 1)] == [scheduler.CONTINUE] * 2


def test_a_resumed_sweep_knows_earlier_scores(asha: Sweep) -> None:
    """Also those of trials that had ended. Ray starts again with the scheduler as it was at the beginning."""
    own = own_values(RATES, asha.experiment)
    trials = [trial_of(i, {**own, "critic.steps": 10 + i}) for i in range(8)]
    pickled = cloudpickle.dumps(make_scheduler(asha))  # type: ignore[no-untyped-call]
    decide = start(cloudpickle.loads(pickled), trials[:7])
    for i in range(1, 6):
        decide(trials[i], float(i))
    assert decide(trials[6], 100.0) == ResumableASHA.STOP
    again = start(cloudpickle.loads(pickled), trials[6:])  # killed before Ray recorded that trial 6 was stopped
    assert [again(trials[7], 50.0), again(trials[6], 1.0)] == [ResumableASHA.STOP] * 2
    assert start(cloudpickle.loads(pickled), trials[:1])(trials[0], 0.5) == ResumableASHA.CONTINUE


def test_pbt_mutates_within_the_space_every_fifth_of_a_run(make_sweep: Make) -> None:
    space = {**RATES, "critic.steps": ("choice", [3, 1, 2])}
    for iterations, interval in ((90, 18), (24, 6)):  # 15 evaluations; 4, which are not five fifths
        changes = {"iterations": iterations, "evaluate_every": 6}
        pbt: Any = make_scheduler(make_sweep(space, 4, changes, scheduler="pbt"))
        assert (pbt._time_attr, pbt._perturbation_interval) == ("step", interval)
    assert set(pbt._hyperparam_mutations) == set(space)
    assert pbt._hyperparam_mutations["critic.steps"] == [1, 2, 3], "neighbours in order"
    outside = {"critic.learning_rate": 1.0, "critic.steps": 2, "code.noise": 0.36}
    assert pbt._custom_explore_fn(outside) == {"critic.learning_rate": 1e-2, "critic.steps": 2, "code.noise": 0.3}
