"""Atomic writes leave the old content or the new one, and nothing beside it."""

import os
import stat
from pathlib import Path

import pytest

from arae_core.data.atomic import (
    replace_file_atomically,
    replace_folder_atomically,
    write_json_atomically,
    write_text_atomically,
)


def content(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_a_file_is_created_and_replaced(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "a.txt", "é\r\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\r\n"
    write_json_atomically(tmp_path / "a.txt", {"x": (1, 2)})
    assert content(tmp_path) == {"a.txt": '{\n "x": [\n  1,\n  2\n ]\n}\n'}
    with replace_file_atomically(tmp_path / "a.txt") as partial:
        assert (partial.parent, partial.suffix, partial.name[0]) == (tmp_path, ".txt", "."), "a hidden file"
        partial.write_text("new")
        assert (tmp_path / "a.txt").read_text() != "new"
    assert content(tmp_path) == {"a.txt": "new"}


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text_atomically(tmp_path / "a", "old")
    write_bytes = Path.write_bytes

    def cut_off(path: Path, data: bytes) -> int:
        write_bytes(path, data[:1])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", cut_off)
    with pytest.raises(OSError, match="No space left"):
        write_text_atomically(tmp_path / "a", "new")
    assert content(tmp_path) == {"a": "old"}


def test_a_folder_is_created_and_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "parent" / "run"
    for files in ({"a": "1", "b": "2"}, {"b": "3"}):
        with replace_folder_atomically(folder) as new:
            for name, text in files.items():
                (new / name).write_text(text)
        assert content(tmp_path) == {f"parent/run/{name}": text for name, text in files.items()}
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777 & ~mask


@pytest.mark.parametrize("fails", ["writing", "renaming"])
def test_an_error_leaves_the_old_folder(fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename, folder = os.rename, tmp_path / "run"

    def write(text: str, error: bool = False) -> None:
        with replace_folder_atomically(folder) as new:
            (new / "a").write_text(text)
            if error:
                raise OSError("refused")

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name == "new":
            raise OSError("refused")
        rename(source, target)

    write("old")
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="refused"):
        write("new", error=fails == "writing")
    assert content(tmp_path) == {"run/a": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
