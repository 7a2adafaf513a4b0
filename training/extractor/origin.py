"""What a checkpoint was made of: it is saved with the weights, so that a manifest made of them later is true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Origin:
    """One training run, as far as it had come.

    `data` are the folders that it learned from, `turns` those of its last stage, `stage` that stage and how many of its
    epochs were done ("epoch-8"). `start` is what it went on from, `unknown_start` whether that is not recorded.
    """

    recipe: Mapping[str, Any]
    data: tuple[str, ...]
    turns: int
    stage: str = ""
    start: Origin | None = None
    unknown_start: bool = False

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Origin:
        """The origin that `record` wrote."""
        start = record["start"]
        return cls(**{**record, "data": tuple(record["data"]), "start": start and cls.from_record(start)})

    def record(self) -> dict[str, Any]:
        """As plain values, which a checkpoint may hold."""
        return asdict(self)

    def sources(self) -> tuple[str, ...]:
        """All the data folders, those of earlier runs too."""
        return tuple(dict.fromkeys((*self.data, *(self.start.sources() if self.start else ()))))

    def told(self) -> str:
        """The recipe, and what it went on from, for a manifest's notes."""
        text = f"Recipe: {dict(self.recipe)}, saved at {self.stage}."
        if self.start:
            return f"{text} It went on from a checkpoint of {self.start.turns} turns. {self.start.told()}"
        if self.unknown_start:
            return f"{text} It went on from a checkpoint that does not record what it was made of."
        return text
