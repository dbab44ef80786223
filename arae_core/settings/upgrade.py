"""Settings that an earlier version has stored, under today's names."""

from collections.abc import Mapping
from typing import Any


def upgraded(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Translate stored settings (dotted name -> value) to today's names; those of today stay as they are.

    Before `prior.kind` there was `generator.kind`, which an objective of none overruled by a fitted Gaussian; before
    `code.kind` there was `code.unit_sphere`.
    """
    new = dict(flat)
    if "generator.kind" in new:
        fixed = new.pop("generator.kind") == "gaussian" and new.get("critic.objective") != "none"
        new["prior.kind"] = "gaussian" if fixed else "auto"
    if "code.unit_sphere" in new:
        new["code.kind"] = "sphere" if new.pop("code.unit_sphere") else "euclidean"
    return new
