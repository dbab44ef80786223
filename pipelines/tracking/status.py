"""Whether a run in MLflow is there, and going on."""

import sys

from pipelines.tracking.store import connect, first_line


def has_run(uri: str, run_id: str) -> bool:
    """Whether the run is at `uri`, and not deleted. Raises MlflowException where that cannot be found out."""
    from mlflow.exceptions import MlflowException

    try:
        return str(connect(uri).get_run(run_id).info.lifecycle_stage) == "active"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


def end_children(uri: str, run_id: str, status: str) -> None:
    """End the runs below this one that MLflow still believes to be going on: who was to end them is gone.

    A tracker that fails gives a warning, as the end of a Tracker does.
    """
    from mlflow.exceptions import MlflowException

    try:
        client = connect(uri)
        condition = f"tags.`mlflow.parentRunId` = '{run_id}' and attributes.status = 'RUNNING'"
        for run in client.search_runs([client.get_run(run_id).info.experiment_id], condition):
            client.set_terminated(run.info.run_id, status)
    except (MlflowException, OSError) as error:
        print(f"warning: MLflow at {uri} fails ({first_line(error)}); trials stay RUNNING there", file=sys.stderr)
