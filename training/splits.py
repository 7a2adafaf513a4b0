"""The held-out split: fixed by hash, whole conversations on one side, never trained on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

from training.annotation import Example

CONVERSATIONS = Path(__file__).parent / "data" / "conversations"
HELD_OUT_SHARE = 0.15
# Shorter lines ("Oh nice!") recur in conversations that have nothing to do with one another.
_QUOTED_WORDS = 4


def conversation_files() -> list[Path]:
    """Our annotated conversations: what the shipped extractor is trained on and held out from."""
    return sorted(CONVERSATIONS.glob("*.txt"))


def is_held_out(key: str) -> bool:
    """Whether the thing that `key` names is held out: the same answer on every machine, for ever."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") < HELD_OUT_SHARE * 2**64


def held_out_ids(examples: Sequence[Example]) -> set[str]:
    """Ids of the held-out examples. Turns that quote one another, as text or context, fall on one side.

    Give all the data there is: a turn's side depends on what quotes it.
    """
    return {id_ for id_, key in conversation_keys(examples).items() if is_held_out(key)}


def conversation_keys(examples: Iterable[Example]) -> dict[str, str]:
    """For every example's id the key of its conversation: the same for all turns that quote one another."""
    groups = _Groups()
    lines: dict[str, list[str]] = {}
    for example in examples:
        lines[example.id] = [_line(text) for text in (example.text, *(said.text for said in example.context))]
        for line in lines[example.id]:
            groups.join(
                ("id", example.id), ("line", line) if line.count(" ") >= _QUOTED_WORDS - 1 else ("id", example.id)
            )
    keys: dict[Hashable, str] = {}
    for id_, said in lines.items():
        root = groups.root(("id", id_))
        # The smallest line names a conversation independently of the order of files.
        keys[root] = min([*said, *([keys[root]] if root in keys else [])])
    return {id_: keys[groups.root(("id", id_))] for id_ in lines}


def _line(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


class _Groups:
    """Disjoint sets by union-find."""

    def __init__(self) -> None:
        self._parents: dict[Hashable, Hashable] = {}

    def root(self, item: Hashable) -> Hashable:
        path = []
        while (parent := self._parents.setdefault(item, item)) != item:
            path.append(item)
            item = parent
        self._parents.update(dict.fromkeys(path, item))
        return item

    def join(self, one: Hashable, other: Hashable) -> None:
        self._parents[self.root(one)] = self.root(other)
