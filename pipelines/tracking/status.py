"""Status of MLflow runs."""

import sys

from pipelines.tracking.store import connect, first_line


def has_run(uri: str, run_id: str) -> bool:
    """Return True if the run exists and is not deleted. Raise MlflowException if the store does not answer."""
    from mlflow.exceptions import MlflowException

    try:
        return str(connect(uri).get_run(run_id).info.lifecycle_stage) == "active"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


def end_children(uri: str, run_id: str, status: str) -> None:
    """Set the status of the children of a run that are still RUNNING, because the processes that ran them are gone.

    Warns if MLflow fails.
    """
    from mlflow.exceptions import MlflowException

    try:
        client = connect(uri)
        condition = f"tags.`mlflow.parentRunId` = '{run_id}' and attributes.status = 'RUNNING'"
        for run in client.search_runs([client.get_run(run_id).info.experiment_id], condition):
            client.set_terminated(run.info.run_id, status)
    except (MlflowException, OSError) as error:
        print(f"warning: MLflow at {uri} fails ({first_line(error)}); trials remain RUNNING there", file=sys.stderr)
