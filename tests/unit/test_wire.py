from dataclasses import fields, is_dataclass

import pytest

from actors import messages
from actors.messages import (
    Answer,
    Classification,
    Encoding,
    Extraction,
    HostHealth,
    KnownEntity,
    Mention,
    PronounLink,
    Relation,
    Request,
    StandIn,
    Turn,
    Utterance,
)
from actors.wire import pack, unpack

MENTION = Mention("Leeds", "place", 3, 8, 0.5)
LINK = PronounLink("there", 3, 8, "Leeds", 0.5)
RELATION = Relation("speaker", "lives_in", "Leeds", "asserted", 0.5)
EXTRACTION = Extraction((MENTION,), (LINK,), (RELATION,), 0.25, StandIn("extractor@1.0.0", "slm_timeout"))
CLASSIFICATION = Classification(True, 0.5, False, 0.25, "facts", 0.75, "asks for a fact")
TURN = Turn(
    "t", "me", "s", "user", "\u4f60\u597d \udcff", 1.5, (Utterance("agent", "hi"),), (KnownEntity("Leeds", "place"),)
)
EXAMPLES = [
    Utterance("user", ""),
    KnownEntity("Leeds", "place"),
    TURN,
    Encoding(b"\x00\xff"),
    MENTION,
    LINK,
    RELATION,
    EXTRACTION,
    StandIn("extractor@1.0.0", "slm_timeout"),
    CLASSIFICATION,
    Request(TURN, {"encoder": Encoding(b"1234"), "extractor": EXTRACTION}),
    Answer(CLASSIFICATION, "classifier@1.0.0", 0.1, 0.2),
    HostHealth("encoder", 0, "serving", "encoder@1.0.0", 1, 2, 3, 4, 5, 6),
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_round_trip(message: object) -> None:
    assert unpack(pack(message)) == message


def test_every_message_has_an_example() -> None:
    defined = {kind for kind in vars(messages).values() if isinstance(kind, type) and is_dataclass(kind)}
    assert {type(example) for example in EXAMPLES} == defined
    assert all(fields(kind) for kind in defined)  # type: ignore[arg-type]
