"""The registry behind a real MLflow server, and a registered model behind a real `mlflow models serve`."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from arae_core.model import Model
from pipelines.runtime.cluster import free_port
from pipelines.tracking import promotion, registry, runs
from pipelines.tracking.store import connect, open_tracking


@contextmanager
def serving(command: list[str], ready: str, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """`mlflow COMMAND --port ...` until the block ends; gives http://127.0.0.1:PORT once `ready` answers there."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = (folder / "server.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *command, "--host", "127.0.0.1", "--port", str(port)],
        cwd=folder,
        env={**os.environ, **environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 200
        while not answers(url + ready):
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, (folder / "server.log").read_text()
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # the session of our own child: the server and its workers
        process.wait(timeout=60)
        log.close()


def answers(url: str) -> bool:
    try:
        return bool(urllib.request.urlopen(url, timeout=2).status == 200)
    except OSError:
        return False


def post(url: str, body: Any) -> tuple[int, Any]:
    request = urllib.request.Request(
        url + "/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_served_model_generates_reconstructs_and_interpolates(
    register: Callable[..., int], tracking_uri: str, tmp_path: Path, text_checkpoint: Path
) -> None:
    promotion.promote_if_better(tracking_uri, "arae-tiny", register())
    model = Model.load(text_checkpoint)
    command = ["models", "serve", "--model-uri", "models:/arae-tiny@champion", "--env-manager", "local"]
    environment = {"MLFLOW_TRACKING_URI": tracking_uri, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    with serving(command, "/ping", tmp_path, environment) as url:
        status, answer = post(url, {"dataframe_records": [{"task": "generate"}], "params": {"count": 3, "seed": 2}})
        assert (status, [row["text"] for row in answer["predictions"]]) == (200, model.generate(3, seed=2))
        sentence = "the dog eats ."
        status, answer = post(url, {"dataframe_records": [{"task": "reconstruct", "text": sentence}]})
        assert (status, [row["text"] for row in answer["predictions"]]) == (200, model.reconstruct([sentence]))
        between = {"task": "interpolate", "text": sentence, "to": "two boy runs ."}
        status, answer = post(url, {"dataframe_records": [between], "params": {"steps": 4}})
        texts = [row["text"] for row in answer["predictions"]]
        assert (status, texts) == (200, model.interpolate(sentence, "two boy runs .", 4))
        for wrong, message in (
            ({"dataframe_records": [{"task": "sing"}]}, "task must be one of generate, reconstruct, interpolate"),
            ({"dataframe_records": [{"text": "no task"}]}, "task"),
            ({"dataframe_records": [{"task": "generate"}], "params": {"count": "many"}}, "count"),
            ({"unheard": 1}, "dataframe_records"),
        ):
            status, answer = post(url, wrong)
            assert status == 400
            assert message in answer["message"]


def test_runs_and_models_on_a_server(tmp_path: Path, text_checkpoint: Path) -> None:
    command = ["server", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--workers", "1"]
    command += ["--artifacts-destination", str(tmp_path / "kept")]
    with serving(command, "/health", tmp_path, {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}) as url:
        uri = open_tracking(url)
        run_id = runs.start_parent(uri, "arae-tiny", "sweep", params={"critic.steps": 5})
        tracker = runs.Tracker(uri, run_id)
        tracker.log(1, {"loss": 2.0})
        sent = tracker.unsent()
        tracker.flush()
        runs.Tracker(uri, run_id, sent).flush()  # a restart that does not know they were sent
        tracker.artifact("samples/1.txt", "a man .\n")
        tracker.finish()
        assert [(m.step, m.value) for m in connect(uri).get_metric_history(run_id, "loss")] == [(1, 2.0)]
        for value in (3.0, 2.0):
            version = promotion.register(
                uri,
                text_checkpoint,
                "tiny",
                run_id,
                metric="generation_perplexity",
                value=value,
                data_fingerprint="a",
                samples=9,
            )
            assert promotion.promote_if_better(uri, "arae-tiny", version)[0] == "champion"
        folder = registry.resolve("models:/arae-tiny@champion", uri)
        assert Model.load(folder).generate(3) == Model.load(text_checkpoint).generate(3)
        assert [row["aliases"] for row in registry.list_versions(uri)] == [["champion"], []]
        with pytest.raises(ValueError, match="registered: arae-tiny"):
            registry.resolve("models:/nope/1", uri)
    assert (tmp_path / "kept").is_dir()

    tracker.log(2, {"loss": 1.0})  # the server is gone: the training must not notice for long
    started = time.monotonic()
    tracker.flush()
    assert time.monotonic() - started < 30
    assert tracker.unsent()
