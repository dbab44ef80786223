"""The package's own names, and `fit`."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arae_core as arae
from arae_core.training.loop import Report
from tests.arae_core.small import images, text_settings

SENTENCES = [f"{a} {n} {v} ." for a in ("a", "the") for n in ("man", "dog", "cat") for v in ("runs", "sleeps", "eats")]
SMALL = text_settings({"precision": "float32", "batch_size": 5, "longest": 4})


def test_every_public_name_exists_and_has_a_docstring() -> None:
    assert arae.__all__ == sorted(arae.__all__) == dir(arae)
    assert all(getattr(arae, name).__doc__ for name in arae.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = arae.nonsense


def test_settings_are_read_without_torch() -> None:
    code = "import sys, arae_core as arae; arae.Settings(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(arae.__file__).parents[1])


def test_fit_returns_a_model_that_saves_and_loads(tmp_path: Path) -> None:
    reports: list[Report] = []
    model = arae.fit(SENTENCES, settings=SMALL, iterations=60, every=20, on_report=reports.append)
    assert [report.step for report in reports] == [20, 40, 60] and model.settings.iterations == 60
    assert reports[-1].scalars["reconstruction_loss"] < reports[0].scalars["reconstruction_loss"]
    model.save(tmp_path / "model")
    assert arae.Model.load(tmp_path / "model").generate(5) == model.generate(5)
    path = model.interpolate(SENTENCES[0], SENTENCES[-1], steps=5)
    assert len(path) == 5


def test_fit_takes_labels_and_images() -> None:
    labelled = arae.fit(SENTENCES, [s.split()[1] for s in SENTENCES], settings=SMALL, iterations=2, on_report=print)
    assert labelled.classes == ("cat", "dog", "man")
    assert len(labelled.transfer(SENTENCES[:2], "dog")) == 2
    pixels = images(11).pixels.reshape(11, 3, 5)
    settings = arae.with_settings(SMALL, {"encoder.hidden": (7,), "decoder.hidden": (7,)})
    assert np.asarray(arae.fit(pixels, settings=settings, iterations=2, on_report=print).generate(3)).shape == (3, 3, 5)


def test_fit_needs_no_settings_and_prints_progress(capsys: pytest.CaptureFixture[str]) -> None:
    model = arae.fit(SENTENCES[:7], iterations=1)
    assert (model.settings.batch_size, model.settings.longest) == (7, 4)
    assert "step 1 of 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("examples", "labels", "message"),
    [
        (SENTENCES[:3], None, r"^examples must be >= batch_size \(5\), got 3"),
        (SENTENCES, ["a"], r"^labels must be one for each of 18 sentences, got 1"),
        (SENTENCES, ["a"] * 18, r"^labels must be of two or more classes, got \('a',\)"),
        (["a b c d e f"] * 9, None, r"^longest must be >= 6"),
        (np.zeros((7, 15)), None, r"^examples must be of shape \(N, H, W\), got \(7, 15\)"),
        (np.full((7, 3, 5), 2), None, r"^pixels must be 0 or 1, got 'up to 2'"),
    ],
)
def test_fit_refuses_what_does_not_fit(examples: Any, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arae.fit(examples, labels, settings=SMALL)
