"""Packages a checkpoint as an MLflow model: code, weights (safetensors), JSON, signature, requirements."""

import re
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import arae_core

if TYPE_CHECKING:
    from mlflow.models import Model as ModelFile
    from mlflow.models import ModelSignature

CHECKPOINT = "artifacts/checkpoint"
"""Path of the checkpoint in a packaged model."""
REQUIREMENTS = ("mlflow", "numpy", "pandas", "safetensors", "tokenizers", "torch")


def write_package(checkpoint: Path, folder: Path, model_file: "ModelFile") -> None:
    """Write the MLflow model of `checkpoint`, without the training state, to `folder`, which must not exist.

    model_file: the description to complete, with the ids of MLflow. Raise ValueError for an invalid checkpoint.
    """
    import mlflow.pyfunc

    from arae_core.model import Model
    from arae_core.training.checkpoint import export_model

    with tempfile.TemporaryDirectory() as scratch:
        exported = Path(scratch, Path(CHECKPOINT).name)
        export_model(checkpoint, exported)
        model = Model.load(exported)
        code = Path(scratch, "arae_core")  # a copy, to leave __pycache__ out
        shutil.copytree(Path(arae_core.__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__"))
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(Path(__file__).with_name("packaged_model.py")),
            artifacts={exported.name: str(exported)},
            code_paths=[str(code)],
            signature=signature(model.kind),
            input_example=input_example(model),
            pip_requirements=requirements(),
            mlflow_model=model_file,
        )
    for cache in folder.rglob("__pycache__"):
        shutil.rmtree(cache, ignore_errors=True)


def requirements() -> list[str]:
    """Return the requirements of serving at the installed versions, without local suffixes such as +cpu."""
    return [f"{name}=={re.sub(r'[+].*', '', version(name))}" for name in REQUIREMENTS]


def signature(kind: str) -> "ModelSignature":
    """Return the signature of requests to a model of `kind`; packaged_model.py explains it."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array

    first, second = {"text": ("text", "to"), "image": ("image", "to_image")}[kind]
    example = DataType.string if kind == "text" else Array(Array(DataType.long))
    return ModelSignature(
        inputs=Schema(
            [
                ColSpec("string", "task"),
                ColSpec(example, first, required=False),
                ColSpec(example, second, required=False),
            ]
        ),
        outputs=Schema([ColSpec("long", "row"), ColSpec(example, first)]),
        params=ParamSchema(
            [
                ParamSpec("seed", "long", 0),
                ParamSpec("temperature", "double", None),
                ParamSpec("count", "long", 1),
                ParamSpec("steps", "long", 7),
            ]
        ),
    )


def input_example(model: Any) -> Any:
    """Return (table, parameters) of a request: interpolate between two samples of the model."""
    import pandas as pd

    first, second = (x if isinstance(x, str) else x.tolist() for x in model.generate(2, seed=0))
    columns = ("text", "to") if model.kind == "text" else ("image", "to_image")
    table = pd.DataFrame({"task": ["interpolate"], columns[0]: [first], columns[1]: [second]})
    return table, {"steps": 5}
