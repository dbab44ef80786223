"""A notice board between processes: workers pin their newest figures to it, the driver reads them for its display."""

from typing import Any


class Board:
    """Becomes a Ray actor. Only the newest figures of each trial are kept."""

    def __init__(self) -> None:
        self.notes: dict[str, dict[str, Any]] = {}

    def pin(self, trial: str, figures: dict[str, Any]) -> None:
        self.notes[trial] = figures

    def read(self) -> dict[str, dict[str, Any]]:
        return self.notes


def open_progress_actor() -> Any:
    """A board that every worker may be given; it takes no CPU from them, and stays with the driver: other nodes go."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board: Any = ray.remote(num_cpus=0)(Board)
    return board.options(scheduling_strategy=here).remote()
