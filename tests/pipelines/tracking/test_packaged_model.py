import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arae_core.model import Model
from arae_core.training.checkpoint import save_checkpoint
from pipelines.tracking.registry import resolve

QUIET_AND_SAFE = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
ANSWER = """
import json, sys
import mlflow
import pandas as pd

for line in sys.stdin:
    uri, version, rows, params = json.loads(line)
    mlflow.set_tracking_uri(uri)
    model = mlflow.pyfunc.load_model(f"models:/arae-tiny/{version}")
    import arae_core
    assert "/code/" in arae_core.__file__, arae_core.__file__
    try:
        answer = model.predict(pd.DataFrame(rows), params=params).to_dict("records")
    except mlflow.exceptions.MlflowException as error:
        answer = {"status": error.get_http_status_code(), "message": error.message}
    print("answer", json.dumps(answer), flush=True)
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator["subprocess.Popen[str]"]:
    """A process that answers by registered models, where this repository cannot be imported and pickles are
    forbidden."""
    process = subprocess.Popen(
        [sys.executable, "-c", ANSWER],
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", **QUIET_AND_SAFE},
        cwd=tmp_path_factory.mktemp("elsewhere"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


Ask = Callable[..., Any]


@pytest.fixture
def ask(elsewhere: "subprocess.Popen[str]", tracking_uri: str) -> Ask:
    """ask(rows, **params): the answer of version 1 of arae-tiny in the other process."""

    def answered(rows: list[dict[str, Any]], **params: float) -> Any:
        assert elsewhere.stdin is not None and elsewhere.stdout is not None
        print(json.dumps([tracking_uri, 1, rows, params]), file=elsewhere.stdin, flush=True)
        for line in elsewhere.stdout:
            if line.startswith("answer "):
                return json.loads(line.removeprefix("answer "))
        raise AssertionError("the process has ended")

    return answered


def test_sentences(register: Callable[..., int], tracking_uri: str, ask: Ask) -> None:
    register()
    rows = [
        {"task": "generate"},
        {"task": "reconstruct", "text": "a man sleeps ."},
        {"task": "interpolate", "text": "a man sleeps .", "to": "two dog runs ."},
    ]
    model = Model.load(resolve("models:/arae-tiny/1", tracking_uri))
    expected = [
        *((0, text) for text in model.generate(2, seed=5, temperature=0.7)),
        *((1, text) for text in model.reconstruct(["a man sleeps ."], temperature=0.7, seed=5)),
        *((2, text) for text in model.interpolate("a man sleeps .", "two dog runs .", 3)),
    ]
    answer = ask(rows, count=2, seed=5, temperature=0.7, steps=3)
    assert [(line["row"], line["text"]) for line in answer] == expected


def test_without_a_temperature_samples_are_drawn_at_the_models_own_and_all_else_is_greedy(
    register: Callable[..., int], ask: Ask, tmp_path: Path, text_checkpoint: Path
) -> None:
    loaded = Model.load(text_checkpoint)
    loaded.state.settings = replace(loaded.settings, temperature=0.9)
    register(checkpoint=save_checkpoint(tmp_path / "warm", loaded.state, loaded.vocabulary))
    rows = [{"task": "generate"}, {"task": "reconstruct", "text": "a man sleeps ."}]
    drawn = loaded.generate(7, seed=5, temperature=0.9)
    assert drawn != loaded.generate(7, seed=5, temperature=0.0)
    expected = [*drawn, *loaded.reconstruct(["a man sleeps ."])]
    assert [line["text"] for line in ask(rows, count=7, seed=5)] == expected


def test_images(register: Callable[..., int], ask: Ask, image_checkpoint: Path) -> None:
    register(checkpoint=image_checkpoint)
    model = Model.load(image_checkpoint)
    first, second = np.asarray(model.generate(2, seed=1, temperature=1.0))
    rows = [
        {"task": "generate", "image": None, "to_image": None},
        {"task": "reconstruct", "image": first.tolist(), "to_image": None},
        {"task": "interpolate", "image": first.tolist(), "to_image": second.tolist()},
    ]
    answer = ask(rows, count=2, steps=3)
    expected = [model.generate(2), model.reconstruct(first[None]), model.interpolate(first, second, 3)]
    assert [line["row"] for line in answer] == [0, 0, 1, 2, 2, 2]
    assert [line["image"] for line in answer] == np.concatenate(expected).tolist()


def test_classes(labelled_checkpoint: Path) -> None:
    model = Model.load(labelled_checkpoint)
    answer = predict(labelled_checkpoint, {"task": "transfer", "text": "a dog runs .", "to": "human"}, {})
    assert answer["text"].tolist() == model.transfer(["a dog runs ."], "human")
    drawn = {"seed": 3, "temperature": 5.0}
    answer = predict(labelled_checkpoint, {"task": "transfer", "text": "a dog runs .", "to": "human"}, drawn)
    expected = model.transfer(["a dog runs ."], "human", seed=3, temperature=5.0)
    assert answer["text"].tolist() == expected != model.transfer(["a dog runs ."], "human", seed=0, temperature=5.0)
    answer = predict(labelled_checkpoint, {"task": "generate", "to": "human"}, {"count": 5, "seed": 3})
    assert answer["text"].tolist() == model.generate(5, seed=3, attribute="human")
    answer = predict(labelled_checkpoint, {"task": "generate"}, {"count": 5, "seed": 3})
    assert answer["text"].tolist() == model.generate(5, seed=3)


@pytest.mark.parametrize(
    ("row", "params", "message"),
    [
        (
            {"task": "translate"},
            {},
            "row 0: task must be one of generate, reconstruct, interpolate, transfer, got 'translate'",
        ),
        ({"task": "transfer", "text": "a man ."}, {}, "task transfer needs text and to, but to is empty"),
        (
            {"task": "transfer", "text": "a", "to": "b"},
            {},
            "the attribute must be left out: this model has no attribute",
        ),
        ({"task": "reconstruct"}, {}, "row 0: task reconstruct needs text, but text is empty"),
        ({"task": "interpolate", "text": "a man ."}, {}, "task interpolate needs text and to, but to is empty"),
        ({"task": "reconstruct", "text": " "}, {}, "row 0: text is empty or has no tokens"),
        ({"task": "interpolate", "text": "a man .", "to": ""}, {}, "row 0: to is empty or has no tokens"),
        ({"task": "generate"}, {"count": None}, "row 0: count must be a whole number, got None"),
        ({"task": "generate"}, {"count": 2.5}, "row 0: count must be a whole number, got 2.5"),
        ({"task": "generate"}, {"seed": math.inf}, "row 0: seed must be a whole number, got inf"),
        ({"task": "generate"}, {"count": 10**9}, "count must be in [1, 10000], got 1000000000"),
        ({"task": "generate"}, {"temperature": -1.0}, "temperature must be >= 0, got -1.0"),
        ({"task": "generate"}, {"seed": -1}, "seed must be in [0, 2**32), got -1"),
        ({"task": "interpolate", "text": "a", "to": "b"}, {"steps": 1}, "steps must be in [2, 10000], got 1"),
    ],
)
def test_a_wrong_request_is_the_askers_fault(
    row: dict[str, Any], params: dict[str, Any], message: str, text_checkpoint: Path
) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as error:
        predict(text_checkpoint, row, params)
    assert message in error.value.message
    assert error.value.error_code == "INVALID_PARAMETER_VALUE"  # HTTP status 400


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ([[0, 1], [1, 0]], "image must be 6 rows of 5 pixels"),
        ([[0] * 5] * 5 + [[0] * 4], "image must be 6 rows of 5 pixels"),
        ([[2] * 5] * 6, "image must contain only 0 and 1"),
    ],
)
def test_a_wrong_image_is_the_askers_fault(image: list[list[int]], message: str, image_checkpoint: Path) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=message):
        predict(image_checkpoint, {"task": "reconstruct", "image": image}, {})


def predict(checkpoint: Path, row: dict[str, Any], params: dict[str, float]) -> Any:
    """What the packaged model answers, in this process and without MLflow around it."""
    import pandas as pd
    from mlflow.pyfunc.model import PythonModelContext

    from pipelines.tracking.packaged_model import PackagedModel

    context = PythonModelContext({"checkpoint": str(checkpoint)}, {})  # type: ignore[no-untyped-call]
    model = PackagedModel()
    model.load_context(context)
    return model.predict(context, pd.DataFrame([row]), params)
