from pathlib import Path

import pytest

from tests.pipelines.corpora.files import TEST, TRAIN, VALIDATION, lines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, sentences in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        lines(tmp_path / "source" / f"{split}.txt", sentences)
    return tmp_path / "source"
