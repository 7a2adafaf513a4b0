"""What every small model's evaluation offers: `training/NAME/evaluation.py` and `training/NAME/report.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast

from actors.contract import SLM
from training.bootstrap import Shares
from training.errors import TrainingError


@dataclass(frozen=True, slots=True)
class About:
    """What a model card says in words, whatever the version: what it does, what it cannot, how it was measured."""

    what: str
    limits: Sequence[str]
    measured: str = "On the held-out split of our own data, fixed by hash, which no training run sees."


class Evaluation(Protocol):
    """What one version said of some data, and how right that was."""

    @property
    def report(self) -> dict[str, object]:
        """Figures; a key that begins with `by_` holds a table: names, then figures."""

    def records(self) -> Iterable[Mapping[str, object]]:
        """What was said, in the data's own format."""

    def shares(self) -> Shares:
        """The measures that versions are compared by, in parts."""

    def details(self) -> str:
        """Markdown sections on what goes wrong."""


class Evaluator(Protocol):
    """The module `training.NAME.evaluation`."""

    ABOUT: About

    def own_files(self) -> list[Path]:
        """Our own data, whose held-out split the shipped versions are measured on."""

    def evaluate(self, slm: SLM, files: Sequence[Path], split: str) -> Evaluation:
        """Run `slm` on what `files` hold of `split` ("all", "train" or "held_out"). Raises: TrainingError."""


def evaluator(name: str) -> Evaluator:
    """The evaluator of the small model `name`. Raises: TrainingError."""
    module = f"training.{name}.evaluation"
    if find_spec(f"training.{name}") is None or find_spec(module) is None:
        raise TrainingError(f"nothing scores {name!r}: there is no training/{name}/evaluation.py")
    return cast("Evaluator", import_module(module))
