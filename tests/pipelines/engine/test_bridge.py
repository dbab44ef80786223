"""A trial of several workers, of which Ray Tune sees the evaluations alone."""

from pathlib import Path
from typing import Any

from pipelines.engine.bridge import drive_trial
from pipelines.engine.cluster import DRIVER, Room
from pipelines.engine.search import make_tuner
from pipelines.engine.trainer import train_worker
from pipelines.engine.trial import Plan
from pipelines.engine.watch import Watch
from tests.pipelines.engine.conftest import RATES, Make


def test_a_checkpoint_before_a_machine_goes_is_none_of_tunes_business(
    make_sweep: Make, room: Room, tmp_path: Path
) -> None:
    """Tune ends a sweep in which a report lacks the metric."""
    from ray import tune

    drained = tmp_path / "drained"

    def worker(config: dict[str, Any]) -> Any:
        """The worker, on a machine that is about to go."""
        import ray.train

        def soon() -> str:
            drained.touch()
            return "soon"

        ray.train.get_preemption_info = soon
        return train_worker({**config, "alone": False})

    def drive(config: dict[str, Any], plan: Plan) -> None:
        from pipelines.engine import trainer

        trainer.train_worker = worker
        drive_trial(config, plan)

    sweep = make_sweep(RATES, 1, {"max_failures": 0})
    steps: list[int] = []
    Watch.reported, Watch.ended = lambda rows, row: steps.append(row["step"]), lambda row: None
    Watch.interrupted, Watch.selection, Watch.rows = False, None, {}
    trainable = tune.with_resources(tune.with_parameters(drive, plan=sweep.plan(room)), {DRIVER: 1})
    (result,) = make_tuner(sweep, trainable, 1).fit()
    assert result.error is None and drained.exists()
    assert steps == [6, 12, 18, 24]
