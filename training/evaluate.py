"""Score a version of any small model: `python -m training.evaluate NAME FILE… [--json]`.

Each small model is scored by `training.NAME.score.evaluate`; its docstring says what is counted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from actors.errors import ActorError
from config.settings import SettingsError, load_settings
from registry.errors import RegistryError
from training.errors import TrainingError
from training.loading import open_slm


def main() -> None:
    """Print one JSON object, or a table; exit with 1 and a line that says why where nothing can be scored."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate", description="Score a version of a small model."
    )
    parser.add_argument("name", help="of the small model, as in the settings: extractor, classifier, …")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="data in the small model's own format")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--split", choices=("all", "train", "held_out"), default="all")
    parser.add_argument("--version", help="1.2.3 or name@1.2.3; default: the active one, else the newest bundled")
    parser.add_argument("--predictions", type=Path, metavar="OUT.jsonl", help="write what the model said")
    options = parser.parse_args()
    try:
        report = evaluate(options.name, options.files, options.split, options.version, options.predictions)
    except (TrainingError, RegistryError, ActorError) as error:
        sys.exit(f"{error.code}: {error}")
    except (SettingsError, OSError) as error:
        sys.exit(str(error))
    if options.json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        _show(report)


def evaluate(
    name: str, files: list[Path], split: str, version: str | None = None, predictions: Path | None = None
) -> dict[str, object]:
    """The scorer's report, with the version that was scored and the split.

    Raises:
        TrainingError: no such small model or scorer, or data that cannot be scored.
        RegistryError, ModelLoadError: the version cannot be had.
    """
    if find_spec(f"training.{name}") is None or find_spec(f"training.{name}.score") is None:
        raise TrainingError(f"nothing scores {name!r}: there is no training/{name}/score.py")
    scorer = import_module(f"training.{name}.score")
    slm, found = open_slm(name, load_settings().settings, version)
    try:
        scored: dict[str, object] = scorer.evaluate(slm, files, split, predictions)
    finally:
        slm.close()
    return {"model": str(found), "split": split, **scored}


def _show(report: Mapping[str, object]) -> None:
    console = Console()
    for name, value in report.items():
        if not isinstance(value, Mapping):
            console.print(f"{name}: {value}", highlight=False)
        elif not name.startswith("by_"):
            console.print(f"{name}: " + ", ".join(f"{key} {part}" for key, part in value.items()), highlight=False)
    for name, group in report.items():
        if name.startswith("by_") and isinstance(group, Mapping) and group:
            rows = {row: _flat(parts) for row, parts in group.items()}
            columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
            table = Table(title=name.replace("_", " "), title_justify="left")
            table.add_column("")
            for column in columns:
                table.add_column(column, justify="right")
            for row, cells in rows.items():
                table.add_row(row, *("" if cells.get(column) is None else str(cells[column]) for column in columns))
            console.print(table)


def _flat(parts: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    cells: dict[str, object] = {}
    for name, value in parts.items():
        if isinstance(value, Mapping):
            cells |= _flat(value, f"{prefix}{name} ")
        else:
            cells[f"{prefix}{name}"] = value
    return cells


if __name__ == "__main__":
    main()
