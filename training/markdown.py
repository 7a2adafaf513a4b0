"""Reports as Markdown: figures of any shape as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Figures = Mapping[str, object]
"""Named figures, in groups to any depth."""


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table whose first column holds names and whose others hold figures; None is an empty cell."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def named_table(group: Mapping[str, object]) -> str:
    """A row per name, a column per figure, of a mapping from names to figures."""
    rows = {name: flat(parts) for name, parts in group.items() if isinstance(parts, Mapping)}
    columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
    return table(["", *columns], ([name, *map(cells.get, columns)] for name, cells in rows.items()))


def flat(figures: Figures, prefix: str = "") -> dict[str, object]:
    """The figures of all groups, each under its full name: {"entity": {"f1": 1}} is {"entity.f1": 1}."""
    cells: dict[str, object] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            cells |= flat(value, f"{prefix}{name}.")
        else:
            cells[f"{prefix}{name}"] = value
    return cells


def _cell(value: object) -> str:
    text = "" if value is None else " ".join(str(value).split())
    return text.replace("|", "\\|")
