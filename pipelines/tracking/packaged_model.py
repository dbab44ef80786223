"""What runs when MLflow loads or serves a registered ARAE. MLflow runs this file as it is ("models from code").

It stands beside a copy of `arae_core` and the checkpoint, so nothing is pickled and `pipelines` is not needed.
A request is a table with a row for each wish; parameters hold for all rows (see package.py for the signature):

    {"dataframe_records": [{"task": "generate"}], "params": {"count": 3, "seed": 0, "temperature": 0.5}}
    {"dataframe_records": [{"task": "reconstruct", "text": "a man sleeps ."}]}
    {"dataframe_records": [{"task": "interpolate", "text": "a man sleeps .", "to": "two dogs run ."}],
     "params": {"steps": 5}}
    {"dataframe_records": [{"task": "transfer", "text": "what a sad man .", "to": "positive"}]}

The last is for models with classes; there `to` may also name the class of what is generated. Without a temperature,
samples are drawn at the model's own, and all else is written greedily. For a model of images the
columns are `image` and `to_image`, each a list of rows of 0 and 1; where tasks are mixed, a row that has no image says
null. The answer has a line for each example: `row`, the row of the request it answers, and `text` or `image`. A wrong
request is answered with 400.
"""

from collections.abc import Mapping
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
MOST = 10_000  # examples that one row may ask for


class PackagedModel(PythonModel):
    """generate, reconstruct, interpolate and transfer behind MLflow's one method, predict."""

    def load_context(self, context: PythonModelContext) -> None:
        self.model = Model.load(context.artifacts["checkpoint"])
        self.columns = COLUMNS[self.model.kind]

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer every row; raises MlflowException (400) naming the row that is wrong."""
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
        asked = options["temperature"]
        seed, temperature = int(options["seed"]), 0.0 if asked is None else float(asked)
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed must be in [0, 2**32), got {seed}")
        if not 0 <= temperature < float("inf"):
            raise ValueError(f"temperature must be >= 0, got {temperature}")
        match row["task"]:
            case "generate":
                wanted = row.get("to") if self.model.classes else None
                attribute = wanted if isinstance(wanted, str) else None
                count = _between("count", options, 1)
                drawn = None if asked is None else temperature
                return self.model.generate(count, seed=seed, temperature=drawn, attribute=attribute)
            case "reconstruct":
                return self.model.reconstruct(self._examples(row, self.columns[:1]), seed=seed, temperature=temperature)
            case "interpolate":
                first, second = self._examples(row, self.columns)
                return self.model.interpolate(first, second, _between("steps", options, 2))
            case "transfer" if self.model.kind == "text":
                text, wanted = self._examples(row, self.columns)
                return self.model.transfer([str(text)], str(wanted), seed=seed, temperature=temperature)
            case task:
                raise ValueError(f"task must be one of {', '.join(TASKS)}, got {task!r}")

    def _examples(self, row: Mapping[Any, Any], columns: tuple[str, ...]) -> list[str] | NDArray[np.uint8]:
        """The row's values in `columns`, as the model takes them."""
        values = [row.get(column) for column in columns]
        for column, value in zip(columns, values, strict=True):
            if value is None or isinstance(value, float):  # a cell left empty is NaN
                raise ValueError(f"task {row['task']} needs {' and '.join(columns)}, but {column} is empty")
        if self.model.kind == "text":
            return [str(value) for value in values]
        assert self.model.image_size is not None
        size = self.model.image_size
        return np.stack([_image(column, value, size) for column, value in zip(columns, values, strict=True)])


def _image(column: str, value: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8[H, W] of 0 and 1 from nested lists."""
    height, width = size
    lines = [list(line) for line in value]
    if len(lines) != height or any(len(line) != width for line in lines):
        raise ValueError(f"{column} must be {height} rows of {width} pixels")
    image = np.asarray(lines)
    if not np.isin(image, (0, 1)).all():
        raise ValueError(f"{column} must hold nothing but 0 and 1")
    return image.astype(np.uint8)


def _between(name: str, options: Mapping[str, Any], low: int) -> int:
    value = int(options[name])
    if not low <= value <= MOST:
        raise ValueError(f"{name} must be in [{low}, {MOST}], got {value}")
    return value


mlflow.models.set_model(PackagedModel())
