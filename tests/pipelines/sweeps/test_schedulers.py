"""Which trials are stopped, in a sweep that was gone on with, too."""

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray import cloudpickle

from arae_core.settings.tree import flatten
from pipelines.sweeps.schedulers import SparingScheduler, make_scheduler
from tests.pipelines.small import RATES, Make


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


def test_a_trial_gone_on_with_does_not_count_in_rungs_that_it_has_passed(tmp_path: Path) -> None:
    """At step 700 it has 22, which is no measure for who comes to step 200; at the next rung it counts again."""
    options = {"time_attr": "step", "max_t": 2000, "grace_period": 200, "reduction_factor": 3}
    scheduler = SparingScheduler({"x": 0}, tmp_path / "rungs.json", **options)
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


def test_own_settings_are_the_same_as_lists(tmp_path: Path) -> None:
    """As they come back from Ray's state."""
    options = {"time_attr": "step", "max_t": 10, "grace_period": 1, "reduction_factor": 3}
    scheduler = SparingScheduler({"x": (3, 4)}, tmp_path / "rungs.json", **options)
    scheduler.set_search_properties("loss", "min")
    other, own = trial_of(0, {"x": (3,)}), trial_of(1, {"x": [3, 4]})
    for trial, value in ((other, 1.0), (own, 2.0)):
        scheduler.on_trial_add(None, trial)
        assert scheduler.on_trial_result(None, trial, {"step": 1, "loss": value}) == scheduler.CONTINUE


def test_a_sweep_gone_on_with_knows_the_scores_of_before(make_sweep: Make) -> None:
    """Of those that had ended, too. Ray starts anew with the scheduler as it was at the beginning."""
    sweep = make_sweep(RATES, 8, {"iterations": 48, "evaluate_every": 6}, scheduler="asha")
    own = {name: flatten(sweep.experiment)[name] for name in RATES}
    trials = [trial_of(i, {**own, "critic.steps": 10 + i}) for i in range(8)]
    beginning = cloudpickle.dumps(make_scheduler(sweep))  # type: ignore[no-untyped-call]

    def begin(added: list[Any]) -> Callable[[Any, float], str]:
        scheduler = cloudpickle.loads(beginning)
        scheduler.set_search_properties("generation_perplexity", "min")
        for trial in added:
            scheduler.on_trial_add(None, trial)
        return lambda trial, value: scheduler.on_trial_result(None, trial, {"step": 12, "generation_perplexity": value})

    decided = begin(trials[:7])
    for i in range(1, 6):
        decided(trials[i], float(i))
    assert decided(trials[6], 100.0) == SparingScheduler.STOP
    again = begin(trials[6:])  # killed before Ray wrote down that one was stopped
    assert again(trials[7], 50.0) == SparingScheduler.STOP
    assert again(trials[6], 1.0) == SparingScheduler.STOP
    assert begin(trials[:1])(trials[0], 0.5) == SparingScheduler.CONTINUE


def test_mutations_stay_in_the_space_and_come_every_fifth_of_a_run(make_sweep: Make) -> None:
    space = {**RATES, "critic.steps": ("choice", [3, 1, 2])}
    changes = {"iterations": 90, "evaluate_every": 6}
    pbt: Any = make_scheduler(make_sweep(space, 4, changes, scheduler="pbt"))
    assert pbt._perturbation_interval == 18, "three of fifteen evaluations"
    assert pbt._hyperparam_mutations["critic.steps"] == [1, 2, 3], "neighbours in order"
    outside = {"critic.learning_rate": 1.0, "critic.steps": 2, "code.noise": 0.36}
    assert pbt._custom_explore_fn(outside) == {"critic.learning_rate": 1e-2, "critic.steps": 2, "code.noise": 0.3}


def test_of_few_evaluations_every_one_may_clone(make_sweep: Make) -> None:
    """Four are no five fifths."""
    pbt: Any = make_scheduler(make_sweep(RATES, 4, {"iterations": 24, "evaluate_every": 6}, scheduler="pbt"))
    assert pbt._perturbation_interval == 6


def test_a_third_of_the_trials_goes_on(make_sweep: Make) -> None:
    sweep = make_sweep(RATES, 9, {"iterations": 48, "evaluate_every": 6}, scheduler="asha")
    scheduler = make_scheduler(sweep)
    scheduler.set_search_properties("generation_perplexity", "min")
    trials = [trial_of(i, {"critic.steps": 10 + i}) for i in range(9)]
    decided = []
    for i, trial in enumerate(trials):
        scheduler.on_trial_add(None, trial)
        result = {"step": 12, "generation_perplexity": 10.0 - (i == 8) * 6 + i}  # the last one is the third best
        decided.append(scheduler.on_trial_result(None, trial, result))
    assert decided[8] == scheduler.CONTINUE and decided[7] == decided[6] == scheduler.STOP
