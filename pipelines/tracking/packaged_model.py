"""The code of a registered model. MLflow runs this file to load or serve the model ("models from code").

A copy of `arae_core` and the checkpoint are packaged with it, so nothing is pickled and `pipelines` is not needed. A
request is a table with one task per row, and parameters that apply to all rows (package.py has the signature):

    {"dataframe_records": [{"task": "generate"}], "params": {"count": 3, "seed": 0, "temperature": 0.5}}
    {"dataframe_records": [{"task": "reconstruct", "text": "a man sleeps ."}]}
    {"dataframe_records": [{"task": "interpolate", "text": "a man sleeps .", "to": "two dogs run ."}],
     "params": {"steps": 5}}
    {"dataframe_records": [{"task": "transfer", "text": "what a sad man .", "to": "positive"}]}

Task transfer needs a model with classes; for such a model, `to` of task generate is the class of the samples. The
default temperature is the model's own for samples and 0, greedy, otherwise. The columns for an image model are `image`
and `to_image`, each a list of rows of 0 and 1; a row that needs no image has null. The answer has one line per example:
`row`, the row of the request, and `text` or `image`. An invalid request gets status 400.
"""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from numpy.typing import NDArray

from arae_core.model import Model

TASKS = ("generate", "reconstruct", "interpolate", "transfer")
COLUMNS = {"text": ("text", "to"), "image": ("image", "to_image")}
MAX_EXAMPLES = 10_000
"""Largest number of examples that one row can request."""


class PackagedModel(PythonModel):
    """generate, reconstruct, interpolate and transfer behind MLflow's one method, predict."""

    def load_context(self, context: PythonModelContext) -> None:
        self.model = Model.load(context.artifacts["checkpoint"])
        self.columns = COLUMNS[self.model.kind]

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer every row. Raise MlflowException (status 400), naming the row, if one is invalid."""
        options = {"seed": 0, "temperature": None, "count": 1, "steps": 7} | (params or {})
        answers: list[tuple[int, Any]] = []
        for number, row in enumerate(model_input.to_dict("records")):
            try:
                answers += [(number, example) for example in self._answer(row, options)]
            except ValueError as error:
                raise MlflowException.invalid_parameter_value(f"row {number}: {error}") from error
        examples = [example if isinstance(example, str) else example.tolist() for _, example in answers]
        return pd.DataFrame({"row": [number for number, _ in answers], self.columns[0]: examples})

    def _answer(self, row: Mapping[Any, Any], options: Mapping[str, Any]) -> list[str] | NDArray[np.uint8]:
        requested = options["temperature"]
        seed, temperature = _whole("seed", options), 0.0 if requested is None else float(requested)
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed must be in [0, 2**32), got {seed}")
        if not 0 <= temperature < float("inf"):
            raise ValueError(f"temperature must be >= 0, got {temperature}")
        match row["task"]:
            case "generate":
                target = row.get("to") if self.model.classes else None
                attribute = target if isinstance(target, str) else None
                count = _between("count", options, 1)
                own = None if requested is None else temperature
                return self.model.generate(count, seed=seed, temperature=own, attribute=attribute)
            case "reconstruct":
                return self.model.reconstruct(self._examples(row, self.columns[:1]), seed=seed, temperature=temperature)
            case "interpolate":
                first, second = self._examples(row, self.columns)
                return self.model.interpolate(first, second, _between("steps", options, 2))
            case "transfer" if self.model.kind == "text":
                text, target = self._examples(row, self.columns)
                return self.model.transfer([str(text)], str(target), seed=seed, temperature=temperature)
            case task:
                raise ValueError(f"task must be one of {', '.join(TASKS)}, got {task!r}")

    def _examples(self, row: Mapping[Any, Any], columns: tuple[str, ...]) -> list[str] | NDArray[np.uint8]:
        """Return the values of the row in `columns`, as the model takes them."""
        values = [row.get(column) for column in columns]
        for column, value in zip(columns, values, strict=True):
            if value is None or isinstance(value, float):  # an empty cell is NaN
                raise ValueError(f"task {row['task']} needs {' and '.join(columns)}, but {column} is empty")
        if self.model.kind == "text":
            texts = [str(value) for value in values]
            for column, text in zip(columns, texts, strict=True):
                if (column == "text" or row["task"] == "interpolate") and not self.model.encode_text([text])[0]:
                    raise ValueError(f"{column} is empty or has no tokens")
            return texts
        assert self.model.image_size is not None
        size = self.model.image_size
        return np.stack([_image(column, value, size) for column, value in zip(columns, values, strict=True)])


def _image(column: str, value: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return uint8[H, W] of 0 and 1 from nested lists."""
    height, width = size
    lines = [list(line) for line in value]
    if len(lines) != height or any(len(line) != width for line in lines):
        raise ValueError(f"{column} must be {height} rows of {width} pixels")
    image = np.asarray(lines)
    if not np.isin(image, (0, 1)).all():
        raise ValueError(f"{column} must contain only 0 and 1")
    return image.astype(np.uint8)


def _between(name: str, options: Mapping[str, Any], low: int) -> int:
    value = _whole(name, options)
    if not low <= value <= MAX_EXAMPLES:
        raise ValueError(f"{name} must be in [{low}, {MAX_EXAMPLES}], got {value}")
    return value


def _whole(name: str, options: Mapping[str, Any]) -> int:
    value = options[name]
    if isinstance(value, bool) or not isinstance(value, Real) or not float(value).is_integer():
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    return int(float(value))


mlflow.models.set_model(PackagedModel())
