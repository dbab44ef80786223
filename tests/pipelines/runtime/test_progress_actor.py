"""The actor that the display reads: losing it shows nothing for a while, and ends nothing."""

import os
import signal
import time

from pipelines.runtime.cluster import Room
from pipelines.runtime.progress_actor import newest_figures, open_progress_actor
from tests.pipelines.small import descendants


def test_a_killed_actor_starts_again(room: Room) -> None:
    import ray

    actor = open_progress_actor()
    ray.get(actor.update.remote("one", {"step": 3}))
    assert newest_figures(actor) == {"one": {"step": 3}}
    for pid, line in descendants(os.getpid()):
        if "ray::ProgressActor" in line:
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while newest_figures(actor) != {"two": {"step": 5}}:
        assert time.monotonic() < deadline
        actor.update.remote("two", {"step": 5})
        time.sleep(0.2)


def test_a_lost_actor_has_no_figures(room: Room) -> None:
    import ray

    actor = open_progress_actor()
    ray.kill(actor)
    assert newest_figures(actor) == {}
