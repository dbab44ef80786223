"""Digests by which what lies in a folder is known to be what was written there."""

import hashlib
import json
from pathlib import Path
from typing import Any

SEAL = "sha256"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with the digest of all else that it says, under "sha256"."""
    rest = {name: value for name, value in content.items() if name != SEAL}
    canonical = json.dumps(rest, sort_keys=True).encode()
    return rest | {SEAL: hashlib.sha256(canonical).hexdigest()}


def is_intact(content: dict[str, Any]) -> bool:
    """Whether it says what it said when it was sealed. What never was, as by earlier programs, counts as intact."""
    return content.get(SEAL, "") in ("", sealed(content)[SEAL])
