"""Body of promote.py: list the model registry, or point an alias at a version."""

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.cli.command_line import emit_json
from pipelines.experiment.environment import python

if TYPE_CHECKING:
    from rich.table import Table


def promote(options: argparse.Namespace) -> None:
    """Set the alias if --model is given; list the registered models if it is not, or with --list."""
    if options.alias is not None and not options.model:
        raise ValueError(f"--alias {options.alias} needs --model, the version to point it at")
    from pipelines.reporting.display import make_console
    from pipelines.tracking import promotion, registry
    from pipelines.tracking.store import open_tracking

    uri = open_tracking(options.tracking_uri, create=False)
    results: dict[str, Any] = {}
    if options.model:
        alias = "champion" if options.alias is None else options.alias
        name, version, before = promotion.promote(uri, options.model, alias)
        previous = "none" if before is None else f"version {before}"
        print(f"{alias} of {name}: version {version} (before: {previous})")
        results = {"model": name, "model_version": version, "alias": alias, "before": before}
    if options.list or not options.model:
        versions = registry.list_versions(uri)
        if versions:
            make_console().print(_table(versions))
        else:
            print(f"no models are registered at {uri}; train one with: {python()} pipelines/tune.py")
        results["models"] = versions
    if options.json:
        emit_json(results)


def _table(versions: Sequence[Mapping[str, Any]]) -> "Table":
    from pipelines.reporting.display import rows_table

    rows = [
        {
            "model": version["name"],
            "version": version["version"],
            "aliases": ", ".join(version["aliases"]),
            "metric": version["metric"],
            "value": version["value"],
            "data": (version["data_fingerprint"] or "")[:12],
            "step": version["step"],
            "run": version["run_id"],
            "created (UTC)": version["created"][:16],
        }
        for version in versions
    ]
    return rows_table(rows, "registered models")
