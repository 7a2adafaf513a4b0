"""Score a version of any small model: `python -m training.evaluate NAME [FILE…] [--json]`.

What is counted is told by the docstrings of `training.NAME.score` and `training.NAME.evaluation`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from rich.console import Console
from rich.table import Table

from actors.errors import ActorError
from config.settings import SettingsError, load_settings
from registry.errors import RegistryError
from registry.versions import ModelVersion
from training.errors import TrainingError
from training.evaluation import Evaluation, evaluator
from training.loading import open_slm, version_before
from training.markdown import flat
from training.report import compare, page

BEFORE = "before"


def main() -> None:
    """Print one JSON object, or a table; exit with 1 and a line that says why where nothing can be scored."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate", description="Score a version of a small model."
    )
    parser.add_argument("name", help="of the small model, as in the settings: extractor, classifier, …")
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="data in the small model's own format; default: the held-out split of our own",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--split", choices=("all", "train", "held_out"), help="default: all of the files")
    parser.add_argument("--version", help="1.2.3 or name@1.2.3; default: the active one, else the newest bundled")
    parser.add_argument(
        "--against",
        metavar="VERSION",
        help=f"compare with this version by a paired bootstrap; {BEFORE}: with the one before, if there is one",
    )
    parser.add_argument("--predictions", type=Path, metavar="OUT.jsonl", help="write what the model said")
    parser.add_argument("--report", type=Path, metavar="OUT.md", help="write figures, confusions and the worst errors")
    options = parser.parse_args()
    split = options.split or ("all" if options.files else "held_out")
    try:
        with redirect_stdout(sys.stderr):  # what logs or libraries print is no part of the report
            report, evaluation = evaluate(options.name, options.files, split, options.version, options.against)
        if options.predictions:
            lines = (json.dumps(record, ensure_ascii=False) for record in evaluation.records())
            options.predictions.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        if options.report:
            options.report.parent.mkdir(parents=True, exist_ok=True)
            options.report.write_text(page(report, evaluation), encoding="utf-8")
    except (TrainingError, RegistryError, ActorError) as error:
        sys.exit(f"{error.code}: {error}")
    except (SettingsError, OSError) as error:
        sys.exit(str(error))
    if options.json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        _show(report)


def evaluate(
    name: str, files: Sequence[Path], split: str, version: str | None = None, against: str | None = None
) -> tuple[dict[str, object], Evaluation]:
    """The figures, with the version that was scored and the split, and the evaluation that they come from.

    Without `files` our own data is scored. With `against` the version is compared with another of the same model.

    Raises:
        TrainingError: no such small model or scorer, or data that cannot be scored.
        RegistryError, ModelLoadError: a version cannot be had.
    """
    judge, settings = evaluator(name), load_settings().settings
    chosen = files or judge.own_files()

    def evaluated(wanted: str | None) -> tuple[ModelVersion, Evaluation]:
        slm, found = open_slm(name, settings, wanted)
        try:
            return found, judge.evaluate(slm, chosen, split)
        finally:
            slm.close()

    found, evaluation = evaluated(version)
    report = {"model": str(found), "split": split, **evaluation.report}
    if against == BEFORE:
        against = version_before(found, settings)
    if against:
        other, before = evaluated(against)
        report |= compare(str(other), before, evaluation)
    return report, evaluation


def _show(report: Mapping[str, object]) -> None:
    console = Console()
    for name, value in report.items():
        if not isinstance(value, Mapping):
            console.print(f"{name}: {value}", highlight=False)
        elif not name.startswith("by_"):
            console.print(f"{name}: " + ", ".join(f"{key} {part}" for key, part in value.items()), highlight=False)
    for name, group in report.items():
        if name.startswith("by_") and isinstance(group, Mapping) and group:
            rows = {row: flat(parts) for row, parts in group.items()}
            columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
            table = Table(title=name.replace("_", " "), title_justify="left")
            table.add_column("")
            for column in columns:
                table.add_column(column, justify="right")
            for row, cells in rows.items():
                table.add_row(row, *("" if cells.get(column) is None else str(cells[column]) for column in columns))
            console.print(table)


if __name__ == "__main__":
    main()
