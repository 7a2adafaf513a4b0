"""From a model's scores to mentions, links and relations: what the tags spell, what the schema allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

OUTSIDE = 0
"""Tag 0 is no mention; tag 1 + 2k begins label k, tag 2 + 2k goes on with it."""
_NEVER = np.float32(-1e4)


@dataclass(frozen=True, slots=True)
class TaggedSpan:
    """Words [first, last] that carry label number `label`."""

    first: int
    last: int
    label: int
    confidence: float


def begin_tag(label: int) -> int:
    """The tag of a span's first word."""
    return 1 + 2 * label


def inside_tag(label: int) -> int:
    """The tag of a span's later words."""
    return 2 + 2 * label


def decode_tags(logits: Floats) -> list[TaggedSpan]:
    """The best legal tag sequence of `logits`, shape [words, 1 + 2 * labels], as spans that do not overlap."""
    if not len(logits):
        return []
    log_probs = logits - _log_sum_exp(logits)
    allowed = _transitions(logits.shape[1])
    score = log_probs[0].copy()
    score[2::2] = _NEVER  # nothing goes on before it began
    back = np.zeros(logits.shape, dtype=np.int64)
    for at in range(1, len(logits)):
        paths = score[:, None] + allowed
        back[at] = paths.argmax(axis=0)
        score = paths.max(axis=0) + log_probs[at]
    tags = [int(score.argmax())]
    for at in range(len(logits) - 1, 0, -1):
        tags.append(int(back[at][tags[-1]]))
    return _spans(tags[::-1], np.exp(log_probs))


def _spans(tags: Sequence[int], probabilities: Floats) -> list[TaggedSpan]:
    spans: list[TaggedSpan] = []
    at = 0
    while at < len(tags):
        if tags[at] == OUTSIDE:
            at += 1
            continue
        label = (tags[at] - 1) // 2
        last = at
        while last + 1 < len(tags) and tags[last + 1] == inside_tag(label):
            last += 1
        # The least certain word decides: a span is right only as a whole.
        confidence = min(float(probabilities[i, tags[i]]) for i in range(at, last + 1))
        spans.append(TaggedSpan(at, last, label, confidence))
        at = last + 1
    return spans


def _transitions(tags: int) -> Floats:
    """0 where a tag may follow another, shape [from, to], else a score that no path survives."""
    allowed = np.zeros((tags, tags), dtype=np.float32)
    for label in range((tags - 1) // 2):
        inside = inside_tag(label)
        allowed[:, inside] = _NEVER
        allowed[[begin_tag(label), inside], inside] = 0.0
    return allowed


def _log_sum_exp(logits: Floats) -> Floats:
    peak = logits.max(axis=-1, keepdims=True)
    return np.asarray(peak + np.log(np.exp(logits - peak).sum(axis=-1, keepdims=True)), dtype=np.float32)
