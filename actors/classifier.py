"""The classifier: what answering a turn needs (research, memory) and what kind of turn it is."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from actors.encoder import DIMENSIONS, MAX_CHARACTERS
from actors.errors import ModelLoadError, RequestRejected
from actors.messages import Classification, Encoding, Request
from config.settings import SlmSettings
from registry.versions import ModelVersion

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

RESEARCH, MEMORY = 0, 1
"""The outputs that come before the categories'."""
START, END = "^", "$"
# A word must move the odds by half before the reason names it.
_TELLING = 0.4
_TELLING_WORDS = 2
# These do move the odds, but tell a person nothing.
_BLAND = frozenset({START, END, *"? ! a an and at for in is it of on or s the to".split()})
_UNSURE = 0.7


def grams(text: str) -> frozenset[str]:
    """The words of a text and its pairs of neighbours, lower case, no apostrophes; START and END are neighbours too."""
    plain = text[:MAX_CHARACTERS].lower().replace("'", "").replace("’", "")
    words = re.findall(r"\w+|[?!]", plain)
    marked = [START, *words, END]
    return frozenset(words) | {f"{left} {right}" for left, right in pairwise(marked)}


def features(vector: Floats, layers: Floats, centres: Floats) -> Floats:
    """What a head reads of an encoding: the vector, then each layer centred and of unit length."""
    shifted = layers - centres
    lengths = np.maximum(np.linalg.norm(shifted, axis=1, keepdims=True), 1e-9)
    return np.concatenate([vector, (shifted / lengths).ravel()])


@dataclass(frozen=True, slots=True)
class Head:
    """A linear layer over the encoding and the known grams, then an exact softmax over all combined answers.

    Outputs are [research, memory, *categories]. A combined answer (research r, memory m, category c) scores
    `r * out[0] + m * out[1] + out[2 + c] + agreement[r, m, c]`: the three decisions are made together and fit.
    """

    categories: Mapping[str, str]
    """Name of each category, and what it means as a phrase that "the turn" can precede."""
    vocabulary: Mapping[str, int]
    centres: Floats
    """What is subtracted from the encoder's layers, shape [layers, 384]; no layers: the head reads the vector alone."""
    vector_weights: Floats
    gram_weights: Floats
    bias: Floats
    agreement: Floats

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises: ModelLoadError."""
        try:
            words = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
            # Opened here: numpy leaves the file open where it is not an archive.
            with (folder / "weights.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                found = {"centres": np.zeros((0, DIMENSIONS)), **arrays}
                names = ("centres", "vector_weights", "gram_weights", "bias", "agreement")
                weights = [np.asarray(found[name], dtype=np.float32) for name in names]
            head = cls(dict(words["categories"]), {gram: i for i, gram in enumerate(words["grams"])}, *weights)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ModelLoadError(f"{folder.name}: not a classifier's files: {error}") from error
        count = len(head.categories)
        layers = len(head.centres)
        width = (1 + layers) * DIMENSIONS
        expected = [
            (layers, DIMENSIONS),
            (width, 2 + count),
            (len(head.vocabulary), 2 + count),
            (2 + count,),
            (2, 2, count),
        ]
        if [array.shape for array in weights] != expected:
            raise ModelLoadError(f"{folder.name}: shapes {[a.shape for a in weights]} instead of {expected}")
        if not all(np.isfinite(array).all() for array in weights):
            raise ModelLoadError(f"{folder.name}: weights that are not numbers")
        return head

    def classify(self, text: str, encoding: Encoding) -> Classification:
        """Judge a text by its grams and its encoding. Raises: RequestRejected for an encoding that lacks layers."""
        said = grams(text)
        answers = self.answers(self.outputs(said, self.features(encoding)))
        research, memory = float(answers[1].sum()), float(answers[:, 1].sum())
        categories = answers.sum(axis=(0, 1))
        best = int(categories.argmax())
        needs_research, needs_memory = research >= 0.5, memory >= 0.5
        confidences = max(research, 1 - research), max(memory, 1 - memory), float(categories[best])
        return Classification(
            needs_research=needs_research,
            research_confidence=confidences[0],
            needs_memory=needs_memory,
            memory_confidence=confidences[1],
            category=list(self.categories)[best],
            category_confidence=confidences[2],
            reason=_reason(
                list(self.categories.values())[best],
                self._telling(said, _pulls(answers, needs_research, needs_memory, best)),
                [name for name, needed in (("research", needs_research), ("memory", needs_memory)) if needed],
                unsure=min(confidences) < _UNSURE,
            ),
        )

    def features(self, encoding: Encoding) -> Floats:
        """The vector, then each layer centred and of unit length. Raises: RequestRejected."""
        try:
            vector, layers = encoding.array(), encoding.layer_arrays()
        except ValueError as error:
            raise RequestRejected(f"not an encoding: {error}") from error
        if vector.shape != (DIMENSIONS,) or len(layers) < len(self.centres):
            raise RequestRejected(
                f"an encoding of {len(vector)} numbers and {len(layers)} layers, "
                f"instead of {DIMENSIONS} and {len(self.centres)}; is an older encoder active?"
            )
        return features(vector, layers[: len(self.centres)], self.centres)

    def outputs(self, said: frozenset[str], vector: Floats) -> Floats:
        """The linear layer's outputs, shape [2 + categories]. A text of many words counts as much as one of few."""
        known = self._known(said)
        words = self.gram_weights[known].sum(axis=0) / np.sqrt(max(1, len(known)))
        outputs: Floats = vector @ self.vector_weights + words + self.bias
        return outputs

    def answers(self, outputs: Floats) -> Floats:
        """The probability of every combined answer, shape [2, 2, categories]."""
        scores = self.agreement + outputs[2:]
        scores[1] += outputs[RESEARCH]
        scores[:, 1] += outputs[MEMORY]
        odds = np.exp(scores - scores.max())
        probabilities: Floats = odds / odds.sum()
        return probabilities

    def _known(self, said: frozenset[str]) -> list[int]:
        return sorted(self.vocabulary[gram] for gram in said if gram in self.vocabulary)

    def _telling(self, said: frozenset[str], pulls: Sequence[Floats]) -> list[str]:
        """The words that moved the decisions most, strongest first."""
        shown = [gram for gram in said if gram in self.vocabulary and not _BLAND & set(gram.split())]
        scale = 1 / np.sqrt(max(1, len(self._known(said))))
        strength = {
            g: scale * max(float(self.gram_weights[self.vocabulary[g]] @ pull) for pull in pulls) for g in shown
        }
        telling: list[str] = []
        for gram in sorted(shown, key=lambda gram: (-strength[gram], gram)):
            fresh = not any(set(gram.split()) & set(other.split()) for other in telling)
            if fresh and strength[gram] >= _TELLING and len(telling) < _TELLING_WORDS:
                telling.append(gram)
        return telling


class Classifier:
    """Answers with calibrated confidences: each is the probability that its own decision is right."""

    def __init__(self, head: Head) -> None:
        self._head = head

    @classmethod
    def load(cls, version: ModelVersion, settings: SlmSettings) -> Self:  # noqa: ARG003 - a head needs no threads
        """Open `vocabulary.json` and `weights.npz`. Raises: ModelLoadError."""
        return cls(Head.read(version.path))

    def run(self, requests: Sequence[Request]) -> Sequence[Classification]:
        """One classification per request. Raises: RequestRejected without the encoder's result upstream."""
        return [self._head.classify(request.turn.text, _encoding(request)) for request in requests]

    def close(self) -> None:
        """A head holds nothing but memory."""


def _encoding(request: Request) -> Encoding:
    encoding = request.upstream.get("encoder")
    if not isinstance(encoding, Encoding):
        raise RequestRejected("the classifier needs the encoder's result upstream")
    return encoding


def _pulls(answers: Floats, research: bool, memory: bool, best: int) -> list[Floats]:
    """For each need that was found, else for the category: how each output moves the log odds of that decision."""

    def expected(part: Floats) -> Floats:
        part = part / max(float(part.sum()), 1e-9)
        return np.concatenate([[part[1].sum()], [part[:, 1].sum()], part.sum(axis=(0, 1))])

    def given(chosen: NDArray[np.bool_]) -> Floats:
        return expected(np.where(chosen, answers, 0)) - expected(np.where(chosen, 0, answers))

    axes = np.indices(answers.shape)
    pulls = [given(axes[axis] == 1) for axis, needed in ((0, research), (1, memory)) if needed]
    return pulls or [given(axes[2] == best)]


def _reason(meaning: str, telling: Sequence[str], needs: Sequence[str], *, unsure: bool) -> str:
    words = ", ".join(f"“{gram}”" for gram in telling)
    needed = f"needs {' and '.join(needs)}" if needs else "needs neither research nor memory"
    return f"{meaning}{f' ({words})' if words else ''}; {needed}{', but unsure' if unsure else ''}"
