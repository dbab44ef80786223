"""Whether a run in MLflow is there, and going on."""

from pipelines.tracking.store import connect


def has_run(uri: str, run_id: str) -> bool:
    """Whether the run is at `uri`, and not deleted. Raises MlflowException where that cannot be found out."""
    from mlflow.exceptions import MlflowException

    try:
        return str(connect(uri).get_run(run_id).info.lifecycle_stage) == "active"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
