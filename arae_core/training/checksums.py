"""Checksums that detect damage to stored files and JSON objects."""

import hashlib
import json
from pathlib import Path
from typing import Any

SEAL = "sha256"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal. Raise OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a JSON object with the checksum of its other entries under "sha256"."""
    rest = {name: value for name, value in content.items() if name != SEAL}
    canonical = json.dumps(rest, sort_keys=True).encode()
    return rest | {SEAL: hashlib.sha256(canonical).hexdigest()}


def is_intact(content: dict[str, Any]) -> bool:
    """Return True if a sealed object is unchanged. Objects without a checksum (earlier versions) count as intact."""
    return content.get(SEAL, "") in ("", sealed(content)[SEAL])
