"""List the registered models, or point an alias at one of them.

python pipelines/promote.py
python pipelines/promote.py --model models:/arae-snli/3 --alias champion
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: the repository, not pipelines/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.cli.command_line import Option, emit_json, parse_options, run
from pipelines.experiment.environment import python

OPTIONS = (
    Option("model", str, "", "models:/NAME/VERSION (or models:/NAME@ALIAS) to promote; without it, a listing."),
    Option("alias", str, None, "Alias that --model gets (default: champion)."),
    Option("list", bool, False, "List the registered models (after promoting, with --model)."),
)


def promote_or_list(arguments: Sequence[str] | None) -> None:
    options = parse_options(arguments, "List the registered models, or point an alias at one of them.", OPTIONS)
    if options.alias is not None and not options.model:
        raise ValueError(f"--alias {options.alias} needs --model: the version that it is to point at")
    alias = "champion" if options.alias is None else options.alias
    from pipelines.tracking import promotion, registry
    from pipelines.tracking.store import open_tracking

    uri = open_tracking(options.tracking_uri, create=False)
    results: dict[str, Any] = {}
    if options.model:
        name, version, before = promotion.promote(uri, options.model, alias)
        had = "nothing" if before is None else f"version {before}"
        print(f"{alias} of {name}: version {version} (before: {had})")
        results = {"model": name, "model_version": version, "alias": alias, "before": before}
    if options.list or not options.model:
        models = registry.listing(uri)
        print(_table(models) if models else f"no model is registered at {uri} yet: {python()} pipelines/tune.py")
        results["models"] = models
    if options.json:
        emit_json(results)


def _table(models: list[dict[str, Any]]) -> str:
    """The listing for people: a line for each version."""
    lines: list[tuple[str, ...]] = [
        ("model", "version", "aliases", "metric", "value", "data", "step", "run", "created (UTC)")
    ]
    for row in models:
        value = "-" if row["value"] is None else f"{row['value']:.4g}"
        cells = (row["name"], row["version"], ", ".join(row["aliases"]), row["metric"], value)
        data = (row["data_fingerprint"] or "")[:12]
        lines.append(
            tuple(str(cell or "-") for cell in (*cells, data, row["step"], row["run_id"], row["created"][:16]))
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def main(arguments: Sequence[str] | None = None) -> int:
    return run(promote_or_list, arguments)


if __name__ == "__main__":
    sys.exit(main())
