"""Files of text as people have them: the encoding is checked, and lines end with LF, CR LF or CR."""

import codecs
import shlex
from collections.abc import Iterator
from pathlib import Path

COMPRESSED = {
    b"\x1f\x8b": "compressed with gzip",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ\x00": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"PK\x03\x04": "a zip archive or a workbook",
    b"PAR1": "a Parquet file",
}
"""First bytes of files that are no text -> what such a file is."""
BLOCK = 1 << 20
"""Bytes that are decoded at a time."""


def decoded(content: bytes, name: str, path: Path | None = None) -> str:
    """Return a text without its byte order mark. Raise ValueError as `check_utf8` does."""
    check_utf8(iter([content]), name, path)
    return content.decode("utf-8-sig")


def split_lines(text: str) -> list[str]:
    """Return the lines of a text. Only LF, CR LF and CR end a line, unlike in `str.splitlines`."""
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file of UTF-8, as `split_lines` separates them."""
    with path.open(encoding="utf-8-sig", newline=None) as file:
        for line in file:
            yield line.removesuffix("\n")


def blocks(path: Path) -> Iterator[bytes]:
    """Yield the content of a file."""
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def check_utf8(content: Iterator[bytes], name: str, path: Path | None = None) -> None:
    """Raise ValueError unless the blocks of `content` are UTF-8.

    The message has the line and what to do. name: of the input, in the message. path: of its file, if it has one.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    newlines, returns, start, last = 0, 0, b"", False
    while not last:
        block = next(content, b"")
        last = not block
        start = start or block[:8]
        try:
            decoder.decode(block, final=last)
        except UnicodeDecodeError as error:
            read, rest = error.object[: error.start], error.object[error.start :] + b"".join(content)
            line = 1 + (newlines + read.count(b"\n") or returns + read.count(b"\r"))  # CR ends lines if there is no LF
            raise ValueError(_advice(start, rest, line, name, path)) from None
        newlines, returns = newlines + block.count(b"\n"), returns + block.count(b"\r")


def _advice(start: bytes, rest: bytes, line: int, name: str, path: Path | None) -> str:
    """Return the message about a text that is not UTF-8. rest: from the first wrong byte on."""
    for mark, kind in COMPRESSED.items():
        if start.startswith(mark):
            return f"{name} is not text, it is {kind}; unpack or export it first"
    if line == 1 and start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    else:  # Latin-1 has control characters where Windows-1252 has quotation marks
        encoding = "windows-1252" if _is_windows_1252(rest) else "latin1"
    convert = f"iconv -f {encoding} -t utf-8" + (f" {shlex.quote(str(path))}" if path else "")
    return f"{name}, line {line} is not UTF-8 (byte {rest[0]:#x}); convert it, for example: {convert}"


def _is_windows_1252(content: bytes) -> bool:
    try:
        content.decode("windows-1252")
    except UnicodeDecodeError:
        return False
    return True
