"""How people talk, and what a recogniser makes of it: edits of a text that leave what it says as it is."""

from __future__ import annotations

import random
import re

from training.extractor.edits import WORD, Edit

_PUNCTUATION = re.compile(r"[.,!?;:\"…()]+")
_ASKING = (
    "who|whom|whose|what|when|where|why|how|which|whats|wheres|whos|hows|do|does|did|don|doesn|didn|is|are|am|was|were|"
    "isn|aren|wasn|weren|has|have|had|hasn|haven|hadn|can|could|will|would|should|shall|won|couldn|wouldn|shouldn"
)
_QUESTION = re.compile(
    rf"(?:^|[.,!?;:…]|\b(?:and|so|but|or|wait|hey|um|uh|oh|ok|okay|well|yeah|no|yes)\b)\s*(?:{_ASKING})\b",
    re.IGNORECASE,
)
"""How a question begins that its words alone tell to be one."""
_FILLERS = "uh,um,uhm,er,like,you know,well,i mean,so,okay so,hmm,let me see,actually,basically,kind of,right".split(
    ","
)
_OPENERS = "um,uh,so,so yeah,okay so,well,oh,hey,right so,yeah,i mean,hmm,ah,listen".split(",")
_AMBIGUOUS = {"like", "kind of", "right"}
"""Fillers that after a pronoun would be read as something said."""
_SUBJECTS = {"i", "we", "you", "they", "he", "she", "it", "to", "was", "is", "are", "am", "were"}
_REPEATED = set("the a an i i'm we my our in at on to for and but so it's is was that this of with".split())
_BEGINNING = _REPEATED | set("had have got am i've i'd we're we've used went just were been there you do did".split())
_STARTED = re.compile(r"(?<!\w)(in|at|to|from|for|my|the|a|our|with|of) ([^\W\d_]{4,})")
_HEARD = {
    "their": ("there", "they're"), "there": ("their",), "they're": ("there", "their"), "your": ("you're",),
    "you're": ("your",), "it's": ("its",), "its": ("it's",), "too": ("to",), "to": ("too",), "then": ("than",),
    "than": ("then",), "here": ("hear",), "hear": ("here",), "of": ("a",), "an": ("and",), "a": ("the",),
    "the": ("a", "that"), "week": ("weak",), "right": ("write",), "where": ("wear", "were"), "whole": ("hole",),
    "new": ("knew",), "meet": ("meat",), "because": ("cause", "cuz"), "really": ("really really",),
    "around": ("round",), "who's": ("whose",), "been": ("bin",), "through": ("threw",), "would": ("wood",),
    "some": ("sum",),
}  # fmt: skip
_CONTRACTED = re.compile(
    r"(?<!\w)(?:[a-z]+n['’]t|(?:i|we|you|they)['’](?:m|re|ve|ll|d)|that['’]s|let['’]s)(?!\w)", re.IGNORECASE
)
_DROPPED = {"a", "an", "the", "to", "that", "of", "just", "is", "are"}
_RUN_ON = {"gonna": "going to", "wanna": "want to", "gotta": "got to", "kinda": "kind of", "cause": "because"}
_LEAST_WORDS = 3
_ONES = "one two three four five six seven eight nine".split()
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_NUMBERS = {word: number for number, word in enumerate([*_ONES, *_TEENS], 1)}
_NUMBERS |= {word: number for number, word in zip(range(20, 100, 10), _TENS, strict=True)}
_NUMBERS |= {f"{ten}-{one}": _NUMBERS[ten] + _NUMBERS[one] for ten in _TENS for one in _ONES}
# Beside these a number is part of a greater one, of a year or of an ordinal.
_NUMBER_PARTS = set(
    "hundred thousand million half quarter point oh o'clock first second third fourth fifth sixth seventh eighth ninth "
    "something odd and-a-half".split()
)


def without_punctuation(text: str) -> list[Edit]:
    """No marks but those within a word ("7:30", "3.5"), which are part of it, and what alone tells of a question."""
    edits: list[Edit] = []
    begun = 0
    for mark in _PUNCTUATION.finditer(text):
        asked = "?" in mark[0] and not _QUESTION.search(text[begun : mark.start()])
        within = text[: mark.start()][-1:].isalnum() and text[mark.end() :][:1].isalnum()
        if not within:
            edits.append(Edit(mark.start(), mark.end(), "?" if asked else ""))
        if not within and re.search("[.!?…]", mark[0]):
            begun = mark.end()
    return edits


def fillers(text: str, rng: random.Random) -> list[Edit]:
    """One or two of "um" and the like, sometimes in front."""
    edits = [Edit(0, 0, f"{_capital(rng.choice(_OPENERS), text)} ")] if rng.random() < 0.4 else []
    gaps = [found for found in WORD.finditer(text) if text[found.end() : found.end() + 1] == " "]
    for found in sorted(rng.sample(gaps, min(len(gaps), rng.choice((1, 1, 2)))), key=lambda f: f.start()):
        filler = rng.choice(_FILLERS)
        if not (filler in _AMBIGUOUS and found[0].lower() in _SUBJECTS):
            edits.append(Edit(found.end(), found.end(), f" {filler}"))
    return edits


def repetitions(text: str, rng: random.Random) -> list[Edit]:
    """A small word twice ("the the"), a word begun ("in Par- in Paris"), or the turn begun again."""
    kind = rng.random()
    words = list(WORD.finditer(text))
    if kind < 0.3 and len(words) > _LEAST_WORDS and {word[0].lower() for word in words[:2]} <= _BEGINNING:
        start = text[words[0].start() : words[1].end()]
        return [Edit(words[0].start(), words[0].start(), f"{start}{rng.choice((', ', ' '))}")]
    if kind < 0.65 and (begun := list(_STARTED.finditer(text))):
        found = rng.choice(begun)
        fragment = found[2][: rng.randint(1, len(found[2]) - 2)]
        dash = "" if text.islower() else "-"
        return [Edit(found.start(), found.start(), f"{found[1]} {fragment}{dash} ")]
    small = [word for word in words if word[0].lower() in _REPEATED]
    chosen = sorted(rng.sample(small, min(len(small), rng.choice((1, 1, 2)))), key=lambda word: word.start())
    return [Edit(word.start(), word.start(), f"{word[0]} ") for word in chosen]


def misheard(text: str, rng: random.Random, share: float = 0.12) -> list[Edit]:
    """Small words taken for others that sound like them, or not heard; contractions without their mark."""
    edits: list[Edit] = []
    for word in WORD.finditer(text):
        said = word[0].lower()
        if _CONTRACTED.fullmatch(word[0]) and rng.random() < 2 * share:
            edits.append(Edit(word.start(), word.end(), re.sub("['’]", "", word[0])))
        elif said in _RUN_ON and rng.random() < share:
            edits.append(Edit(word.start(), word.end(), _RUN_ON[said]))
        elif (
            said in _DROPPED and word.start() and text[word.end() : word.end() + 1] == " " and rng.random() < share / 2
        ):
            edits.append(Edit(word.start(), word.end() + 1, ""))
        elif said in _HEARD and rng.random() < share:
            edits.append(Edit(word.start(), word.end(), _capital(rng.choice(_HEARD[said]), word[0])))
    return edits


def digits(text: str) -> list[Edit]:
    """Numbers below a hundred in digits, as a recogniser may write them; "one" is rarely a number."""
    words = list(WORD.finditer(text))
    values = [_NUMBERS.get(word[0].lower().replace(" ", "-")) for word in words]
    edits: list[Edit] = []
    at = 0
    while at < len(words):
        end = at
        while end < len(words) and (values[end] is not None or words[end][0].lower() in _NUMBER_PARTS):
            end += 1
        run = values[at:end]
        tens_and_ones = len(run) == 2 and (run[0] or 0) >= 20 and (run[0] or 0) % 10 == 0 and 0 < (run[1] or 0) < 10
        if (len(run) == 1 or tens_and_ones) and None not in run and sum(filter(None, run)) > 1:
            edits.append(Edit(words[at].start(), words[end - 1].end(), str(sum(filter(None, run)))))
        at = max(end, at + 1)
    return edits


def _capital(said: str, like: str) -> str:
    return said[0].upper() + said[1:] if like[:1].isupper() else said
