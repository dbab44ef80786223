"""Optuna, with a first trial whose values the space need not list."""

from collections.abc import Mapping
from typing import Any

from ray.tune.search.optuna import OptunaSearch


class OptunaAfterBaseline(OptunaSearch):
    """Gives the first trial the baseline's values, and asks Optuna for all others, which draws only listed values.

    Optuna cannot be told of a value that is not among its choices, so it learns nothing from the first trial.
    """

    def __init__(self, own: Mapping[str, Any], **options: Any) -> None:
        """own: the values of the first trial. options: of OptunaSearch."""
        super().__init__(**options)
        self.own, self.baseline = dict(own), ""

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the values of a trial."""
        if not self.baseline:
            self.baseline = trial_id
        return dict(self.own) if trial_id == self.baseline else super().suggest(trial_id)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell Optuna about an evaluation."""
        if trial_id != self.baseline:
            super().on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how a trial ended."""
        if trial_id != self.baseline:
            super().on_trial_complete(trial_id, result, error)
