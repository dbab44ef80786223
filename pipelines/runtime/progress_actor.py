"""Ray actor that holds the newest figures of every trial: workers update it, the driver's display reads it."""

from typing import Any

SECONDS_TO_READ = 5.0


class ProgressActor:
    """Newest figures of each trial. Becomes a Ray actor."""

    def __init__(self) -> None:
        self.figures: dict[str, dict[str, Any]] = {}

    def update(self, trial: str, figures: dict[str, Any]) -> None:
        """Replace the figures of a trial."""
        self.figures[trial] = figures

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the newest figures by trial."""
        return self.figures


def open_progress_actor() -> Any:
    """Start the actor on the driver's node, which outlives the others. It reserves no CPU; if lost, it restarts."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(num_cpus=0)(ProgressActor)
    return actor.options(scheduling_strategy=here, max_restarts=-1).remote()


def newest_figures(actor: Any) -> dict[str, dict[str, Any]]:
    """Return the newest figures by trial; nothing while the actor is lost: what is only shown must not end a run."""
    import ray

    try:
        figures: dict[str, dict[str, Any]] = ray.get(actor.read.remote(), timeout=SECONDS_TO_READ)
    except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
        return {}
    return figures
