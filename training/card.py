"""A version's papers: README.md, its model card, and REPORT.md, its evaluation.

`python -m training.card FOLDER` writes them for a version that was described without.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from actors.errors import ActorError
from config.settings import SettingsError, load_settings
from registry.errors import RegistryError
from registry.versions import Manifest, ModelVersion
from training.errors import MissingCard, TrainingError
from training.evaluation import About, Evaluation, evaluator
from training.loading import load_slm
from training.markdown import Figures, flat, named_table, table
from training.report import page

CARD, REPORT = "README.md", "REPORT.md"
_WEAK_COUNT, _WEAK_F1 = 5, 0.4


def write_papers(version: ModelVersion, about: About, evaluation: Evaluation) -> None:
    """Write the card and the report into the version's folder. Describe the version again afterwards, so that its
    manifest lists them."""
    report = {"model": str(version), "split": "held_out", **_of_the_version(evaluation.report)}
    (version.path / REPORT).write_text(page(report, evaluation), encoding="utf-8")
    write_card(version, about, evaluation.report)


def write_card(version: ModelVersion, about: About, figures: Figures) -> None:
    """Write README.md: what the version is, what it comes from, what it was measured to do, what it cannot do.

    A row of a `by_…` table of `figures` that is weak is named among the limits.
    """
    manifest, figures = version.manifest, _of_the_version(figures)
    overall = {name: value for name, value in figures.items() if not name.startswith("by_")}
    tables = {name: group for name, group in figures.items() if name.startswith("by_") and isinstance(group, Mapping)}
    megabytes = sum(entry.size for entry in manifest.files if entry.path not in (CARD, REPORT)) / 1e6
    sections = [
        f"# {version}",
        about.what,
        f"Runs on {manifest.runtime}; {megabytes:.1f} MB; made on {manifest.created_at:%d %B %Y}.",
        "## Data",
        "\n".join(f"- {source}" for source in (*manifest.trained_from, *(f"on top of {p}" for p in manifest.parents))),
        *_trained_on(manifest),
        "## Recipe",
        manifest.notes or "As the training command's defaults.",
        "## Measured",
        about.measured + (f" What goes wrong is in [{REPORT}]({REPORT})." if (version.path / REPORT).exists() else ""),
        table(["", "figure"], flat(overall).items()),
    ]
    for name, group in tables.items():
        sections += [f"### {name.replace('_', ' ').capitalize()}", named_table(group)]
    sections += [
        "## Limits",
        "\n".join(f"- {limit}" for limit in (*about.limits, *_weak(tables))),
        "## Licence",
        f"{manifest.licence}.",
    ]
    (version.path / CARD).write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def require_papers(version: ModelVersion) -> None:
    """Raises: MissingCard for a version whose manifest lists no card."""
    if CARD not in {entry.path for entry in version.manifest.files}:
        raise MissingCard(f"{version}: a version is published only with its {CARD}; see training.card")


def main() -> None:
    """Evaluate the version in a folder on the held-out split, and write its papers there.

    The manifest stays as it is: a version that was published never changes, and what it does not list is not copied
    into a registry.
    """
    parser = argparse.ArgumentParser(prog="python -m training.card", description=__doc__)
    parser.add_argument("folder", type=Path, help="of a version, with its manifest.json")
    options = parser.parse_args()
    try:
        manifest = Manifest.read(options.folder)
        if {entry.path for entry in manifest.files} & {CARD, REPORT}:
            raise TrainingError(f"{manifest} was published with its papers, and they are part of it")
        version = ModelVersion(manifest, options.folder)
        judge = evaluator(manifest.name)
        settings = load_settings().settings
        slm = load_slm(manifest.name, settings, version)
        try:
            write_papers(version, judge.ABOUT, judge.evaluate(slm, judge.own_files(), "held_out"))
        finally:
            slm.close()
    except (TrainingError, RegistryError, ActorError) as error:
        sys.exit(f"{error.code}: {error}")
    except (SettingsError, OSError) as error:
        sys.exit(str(error))


def _of_the_version(figures: Figures) -> Figures:
    """Without the speed, which is that of the machine that measured it."""
    return {name: value for name, value in figures.items() if name != "latency_ms"}


def _trained_on(manifest: Manifest) -> list[str]:
    counts = ((what, manifest.quality.get(key)) for what, key in (("trained", "trained_on"), ("tuned", "tuned_on")))
    told = [f"{what} on {count} turns" for what, count in counts if count]
    return [f"It was {' and '.join(told)}."] if told else []


def _weak(tables: Mapping[str, Figures]) -> list[str]:
    """What the tables show it to be bad at: rows with an F1 under 0.4, where there are enough to tell."""
    weak = []
    for name, group in tables.items():
        rows = {row: flat(parts) for row, parts in group.items() if isinstance(parts, Mapping)}
        f1 = {row: _figure(cells, "f1") for row, cells in rows.items() if (_figure(cells, "count") or 0) >= _WEAK_COUNT}
        low = sorted((value, row) for row, value in f1.items() if value is not None and value < _WEAK_F1)
        if low:
            said = ", ".join(f"{row} {value:.2f}" for value, row in low)
            weak.append(f"Weak {name.replace('_', ' ')} (F1): {said}.")
    return weak


def _figure(cells: Mapping[str, object], name: str) -> float | None:
    for key in (name, f"relation.{name}"):
        if isinstance(value := cells.get(key), int | float):
            return float(value)
    return None


if __name__ == "__main__":
    main()
