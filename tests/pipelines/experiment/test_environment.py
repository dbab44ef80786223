from pathlib import Path

import pytest

from pipelines.experiment import environment


def test_where_things_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ARAE_STORAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert environment.default_storage() == Path("runs")
    assert environment.default_tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    job = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    job.mkdir(parents=True)
    monkeypatch.chdir(job)
    assert environment.default_storage() == Path.home() / "arae"
    assert environment.default_tracking_uri() == f"sqlite:///{Path.home()}/arae/mlflow.db"
    monkeypatch.setenv("ARAE_STORAGE", "/s")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://t")
    assert (environment.default_storage(), environment.default_tracking_uri()) == (Path("/s"), "http://t")
