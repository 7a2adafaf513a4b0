"""A version's evaluation as one Markdown page, and the comparison of two versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from training.bootstrap import RESAMPLES, paired_bootstrap
from training.evaluation import Evaluation
from training.markdown import Figures, flat, named_table, table

_NOTES = {
    "by_cut": "Turns cut after a share of their words. Found: of the relations stated by then, those that are told. "
    "Stable: of the relations told then, those still told of the whole turn. A version that generates leaves "
    "turns that go on to the one-pass extractor.",
    "by_measure": "A paired bootstrap: the 95 % interval of the difference over resampled conversations (or queries), "
    "and the share of resamples in which the new version is strictly better. More is better of every measure.",
}
_TITLES = {"by_cut": "Partial utterances", "by_measure": "Compared with {against}"}


def compare(old: str, before: Evaluation, after: Evaluation) -> dict[str, object]:
    """What `after` gains over `before`, which is the version `old`, on the same data: part of a report.

    `by_measure` holds a `bootstrap.Difference` per measure. Raises: ValueError for different data.
    """
    shares = after.shares()
    differences = paired_bootstrap(before.shares(), shares)
    return {
        "against": old,
        "comparison": {"units": len(next(iter(shares.values()))), "resamples": RESAMPLES},
        "by_measure": {measure: asdict(difference) for measure, difference in differences.items()},
    }


def page(report: Figures, evaluation: Evaluation) -> str:
    """The whole page: overall figures, a table of each `by_…` group, then what goes wrong.

    `report` has "model" and "split" beside the evaluation's own figures, and where two versions were compared, that.
    """
    overall = {name: value for name, value in report.items() if not name.startswith("by_")}
    sections = [
        f"# {report['model']}, {report['split']} split",
        *_stood_in(report.get("stood_in")),
        table(["", "figure"], flat(overall).items()),
    ]
    for name, group in report.items():
        if name.startswith("by_") and isinstance(group, Mapping) and group:
            title = _TITLES.get(name, name.replace("_", " ").capitalize()).format(against=report.get("against"))
            sections += [f"## {title}", *filter(None, [_NOTES.get(name)]), named_table(group)]
    return "\n\n".join([*sections, evaluation.details()]) + "\n"


def _stood_in(turns: object) -> Iterator[str]:
    if isinstance(turns, Mapping):
        codes = ", ".join(f"{code} {count}" for code, count in turns.items() if code != "turns")
        yield f"**Another version stood in for {turns['turns']} turns ({codes}): the figures hold its answers too.**"
