"""Text that is not UTF-8: the line, and a command that converts it to what was meant."""

import gzip
import shlex
import subprocess
from pathlib import Path

import pytest

from pipelines.corpora import text_files
from pipelines.corpora.text_files import blocks, check_utf8, decoded, read_lines, split_lines


def refusal(path: Path) -> str:
    with pytest.raises(ValueError, match="not ") as error:
        check_utf8(blocks(path), f"--input {path}", path)
    with pytest.raises(ValueError, match="not ") as again:
        decoded(path.read_bytes(), f"--input {path}", path)
    assert str(again.value) == str(error.value)
    return str(error.value)


@pytest.mark.parametrize("encoding", ["windows-1252", "latin1", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_advice_gives_the_text(encoding: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "BLOCK", 3)
    path, odd = tmp_path / "of excel.txt", "\u2019" if encoding == "windows-1252" else "\xe9\x81"
    text = end.join(["plain", "it is", f"it{odd}s", "the end", ""])
    path.write_bytes(text.encode(encoding))
    message = refusal(path)
    line = 1 if encoding == "utf-16" else 3
    assert message.startswith(f"--input {path}, line {line} is not UTF-8 (byte ")
    done = subprocess.run(shlex.split(message.split("for example: ")[1]), capture_output=True, check=True)
    assert done.stdout.decode() == text


def test_a_compressed_file_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(gzip.compress(b"text\na b\n"))
    assert refusal(tmp_path / "a.csv") == (
        f"--input {tmp_path / 'a.csv'} is not text, it is compressed with gzip; unpack or export it first"
    )


def test_lines_are_the_same_in_files_and_in_commands(tmp_path: Path) -> None:
    text = "a\r\nb\rc\n\nd\u2028e\x0bf"
    (tmp_path / "a.txt").write_text("\ufeff" + text, encoding="utf-8", newline="")
    expected = ["a", "b", "c", "", "d\u2028e\x0bf"]
    assert list(read_lines(tmp_path / "a.txt")) == split_lines(text) == split_lines(text + "\n") == expected
    assert decoded((tmp_path / "a.txt").read_bytes(), "it") == text


def test_a_character_at_the_end_of_a_block_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "BLOCK", 2)
    (tmp_path / "a.txt").write_text("a\u2019\u2019b\n" * 7, encoding="utf-8")
    check_utf8(blocks(tmp_path / "a.txt"), "it")
    (tmp_path / "a.txt").write_bytes("a\u2019".encode()[:-1])
    with pytest.raises(ValueError, match=r"line 1 is not UTF-8 \(byte 0xe2\)"):
        check_utf8(blocks(tmp_path / "a.txt"), "it")
