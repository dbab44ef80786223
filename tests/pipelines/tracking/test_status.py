"""Whether a run is there, and going on."""

from pipelines.tracking.runs import start_parent
from pipelines.tracking.status import has_run
from pipelines.tracking.store import connect


def test_a_run_is_there_until_it_is_deleted(tracking_uri: str) -> None:
    run_id = start_parent(tracking_uri, "arae-test", "run", params={})
    assert has_run(tracking_uri, run_id) and not has_run(tracking_uri, "0" * 32)
    connect(tracking_uri).delete_run(run_id)
    assert not has_run(tracking_uri, run_id)
