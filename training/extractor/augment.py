"""New variants of an example that keep its labels true: other names, other ways of talking, other lengths."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from actors.messages import ROLES, KnownEntity
from training.annotation import Example
from training.extractor.edits import edit, lower
from training.extractor.names import NameSwapper, article
from training.extractor.recast import cut, first_person, join, leaves_a_role_unsaid, repaired, third_person
from training.extractor.speech import digits, fillers, misheard, repetitions, without_punctuation

_SAME_CONTEXT_TRIES = 8
_BOTH_SHARE = 0.75
_MOST_OFFERED = 5
_FORGOTTEN_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class Rates:
    """How often each change is made. `drop_punctuation` mostly drops capitals too, and sometimes them alone."""

    swap_names: float = 0.6
    drop_punctuation: float = 0.35
    add_filler: float = 0.15
    drop_context: float = 0.1
    repeat: float = 0.1
    mishear: float = 0.15
    join: float = 0.06
    cut: float = 0.08
    change_person: float = 0.15
    offer_names: float = 0.15
    repair: float = 0.05
    write_digits: float = 0.1


NONE = Rates(**dict.fromkeys(Rates.__dataclass_fields__, 0.0))
"""Examples as they were written."""


class Augmenter:
    """Makes variants; beside the lists it swaps in the names of the examples it was built from."""

    def __init__(self, examples: Sequence[Example], rates: Rates) -> None:
        self._rates = rates
        statuses = Counter(relation.status for example in examples for relation in example.gold.relations)
        # What is said of nothing in particular.
        self._default_status = statuses.most_common(1)[0][0] if statuses else ""
        self._role_type = _role_type(examples)
        self._names = NameSwapper(examples)
        self._meant = sorted({link.antecedent for example in examples for link in example.gold.links})
        self._alone: defaultdict[bool, list[Example]] = defaultdict(list)
        for example in examples:
            if not example.context:
                self._alone[example.text.islower()].append(example)

    def vary(self, example: Example, rng: random.Random) -> Example:
        """A variant of `example`: the same one when nothing was changed."""
        rates = self._rates
        if rng.random() < rates.drop_context and not _needs_context(example):
            example = replace(example, context=())
        if rng.random() < rates.change_person:
            example = self._change_person(example, rng)
        if rng.random() < rates.join:
            example = self._join(example, rng)
        if rng.random() < rates.swap_names:
            example = self._names.swap(example, rng)
        if rng.random() < rates.write_digits:
            example = edit(example, digits, earlier=True)
        if rng.random() < rates.repair:
            example = self._repair(example, rng)
        if rng.random() < rates.cut:
            example = cut(example, rng, self._default_status) or example
        if rng.random() < rates.mishear:
            example = edit(example, lambda text: misheard(text, rng), earlier=False)
        if rng.random() < rates.repeat:
            example = edit(example, lambda text: repetitions(text, rng), earlier=False)
        if rng.random() < rates.add_filler:
            example = edit(example, lambda text: fillers(text, rng), earlier=False)
        if rng.random() < rates.drop_punctuation:
            alone = None if rng.random() < _BOTH_SHARE else rng.choice(("marks", "capitals"))
            if alone != "capitals":
                example = edit(example, without_punctuation, earlier=True)
            if alone != "marks":
                example = lower(example)
        if rng.random() < rates.offer_names:
            example = self._offer_names(example, rng)
        return example

    def _offer_names(self, example: Example, rng: random.Random) -> Example:
        """Known entities beside the context, or whom its pronouns mean in place of it; some that have no part in it."""
        names = rng.sample(self._meant, min(len(self._meant), rng.randint(1, _MOST_OFFERED)))
        if example.text.islower():
            names = [name.lower() for name in names]
        if not _rests_on_context(example) and rng.random() < _FORGOTTEN_SHARE:
            names += [link.antecedent for link in example.gold.links]
            example = replace(example, context=())
        names = sorted(set(names))
        rng.shuffle(names)
        return replace(example, known=tuple(KnownEntity(name, "") for name in names))

    def _repair(self, example: Example, rng: random.Random) -> Example:
        """Take back something else before an object of what is said; a turn that corrects already does not again."""
        objects = {relation.object for relation in example.gold.relations}
        said = [m for m in example.gold.mentions if m.text in objects and example.text.count(m.text) == 1]
        if not said or example.gold.correction or example.annotated is not None:
            return example
        mention = rng.choice(said)
        other = self._names.alike(mention.text, mention.type, rng)
        texts = (example.text, *(utterance.text for utterance in example.context))
        if other is None or article(example.text, mention.start, other):
            return example
        if any(other.lower() in text.lower() for text in texts):
            return example
        return repaired(example, other, mention.type, mention.start, rng)

    def _join(self, example: Example, rng: random.Random) -> Example:
        if example.context:
            return example
        others = self._alone[example.text.islower()]
        for _ in range(_SAME_CONTEXT_TRIES):
            other = rng.choice(others) if others else example
            if other.id != example.id and (joined := join(example, other, rng)) is not None:
                return joined
        return example

    def _change_person(self, example: Example, rng: random.Random) -> Example:
        if self._role_type is None:
            return example
        changed = third_person(example, self._names.person(rng), self._role_type)
        return changed or first_person(example, self._role_type) or example


def _role_type(examples: Sequence[Example]) -> str | None:
    """The type that a speaker would have with a name: that of other subjects of what speakers say of themselves."""
    said = Counter(r.predicate for e in examples for r in e.gold.relations if r.subject == ROLES[0])
    types: Counter[str] = Counter()
    for example in examples:
        named = {mention.text: mention.type for mention in example.gold.mentions}
        types.update(named[r.subject] for r in example.gold.relations if r.predicate in said and r.subject in named)
    return types.most_common(1)[0][0] if types else None


def _needs_context(example: Example) -> bool:
    spoken = {mention.text for mention in example.gold.mentions}
    return _rests_on_context(example) or any(link.antecedent not in spoken for link in example.gold.links)


def _rests_on_context(example: Example) -> bool:
    """Whether it says something that no list of names could stand in for."""
    return bool(example.gold.correction) or leaves_a_role_unsaid(example)
