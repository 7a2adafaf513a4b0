"""The held-out split: by hash, whole conversations on one side, the same for the same data.

Data that grows may move a conversation: a new turn that quotes it, or joins it to another, may change its key. So what
an earlier run was trained on may be held out today; a run never trains on what it holds out itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from config.schema import load_schema
from training.annotation import Example, read_examples
from training.errors import TrainingError

CONVERSATIONS = Path(__file__).parent / "data" / "conversations"
PUBLIC = Path(__file__).parent / "data" / "public"
HELD_OUT_SHARE = 0.15
# Shorter lines ("Oh nice!") recur in conversations that have nothing to do with one another.
_QUOTED_WORDS = 4


def conversation_files() -> list[Path]:
    """Our annotated conversations: what the shipped extractor is trained on and held out from."""
    return sorted(CONVERSATIONS.glob("*.txt"))


def public_files() -> list[Path]:
    """Public sets mapped to our schema: to learn from first; nothing is measured on them."""
    return sorted(PUBLIC.glob("*.txt"))


def is_held_out(key: str, share: float = HELD_OUT_SHARE) -> bool:
    """Whether the thing that `key` names is held out: the same answer on every machine, for ever."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") < share * 2**64


def held_out_ids(examples: Sequence[Example]) -> set[str]:
    """Ids of the held-out examples. Turns that quote one another, as text or context, fall on one side.

    Give all the data there is: a turn's side depends on what quotes it, and so may change as data is added.
    """
    return {id_ for id_, key in conversation_keys(examples).items() if is_held_out(key)}


def choose(examples: Sequence[Example], split: str) -> list[Example]:
    """The examples of a split: "all", "train" or "held_out".

    An example is held out where our own data would put it: other files may quote it.

    Raises:
        TrainingError: there is no such split, or it is empty.
    """
    if split == "all":
        return list(examples)
    if split not in ("train", "held_out"):
        raise TrainingError(f"no split {split!r}; there are all, train and held_out")
    own = read_examples(conversation_files(), load_schema())
    # Ids are line numbers and change as files grow; what is said does not.
    everything = [replace(e, id=f"{number}") for number, e in enumerate([*examples, *own])]
    held_out = held_out_ids(everything)
    chosen = [e for number, e in enumerate(examples) if (str(number) in held_out) == (split == "held_out")]
    if not chosen:
        raise TrainingError(f"the split {split} holds none of the {len(examples)} examples")
    return chosen


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
