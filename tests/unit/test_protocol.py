"""Every message survives the wire; what does not fit is refused by name."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.errors import EmptyText, NotUtf8, ProtocolError, TextTooLong
from daemon.protocol import REPLIES, REQUESTS, Ingest, Message, clean_text, parse
from daemon.understood import Understood

record = st.dictionaries(st.text(max_size=9), st.none() | st.text(max_size=9) | st.integers(0, 9), max_size=3)
side = st.fixed_dictionaries({key: st.text(max_size=9) for key in ("name", "type", "role", "owner", "nominal")})
stated = st.fixed_dictionaries(
    {"subject": side, "predicate": st.text(), "object": side, "status": st.text(), "confidence": st.floats(0, 1)},
    optional={"time": st.text(), "time_text": st.text()},
)
open_fields = {
    Understood: st.fixed_dictionaries({"statements": st.lists(stated, max_size=2)}, optional={"mood": st.text()}),
    dict[str, Any]: record,
    list[dict[str, Any]]: st.lists(record, max_size=3),
    dict[str, dict[str, Any]]: st.dictionaries(st.text(max_size=9), record, max_size=3),
}


@pytest.mark.parametrize("message_type", [*REQUESTS.values(), *REPLIES.values()], ids=lambda each: each.TYPE)
@settings(max_examples=25)
@given(data=st.data())
def test_every_message_survives_the_wire(message_type: type[Message], data: st.DataObject) -> None:
    fields = {
        name: open_fields[field.annotation]
        for name, field in message_type.model_fields.items()
        if field.annotation in open_fields
    }
    message = data.draw(st.builds(message_type, **fields))

    event = message.event()

    assert event.type == message_type.TYPE
    assert parse(message_type, event) == message


def test_requests_and_replies_share_no_name() -> None:
    assert not REQUESTS.keys() & REPLIES.keys()


def test_an_unknown_key_is_named() -> None:
    event = Ingest(text="hi").event()
    event.data["sesion"] = "kitchen"

    with pytest.raises(ProtocolError, match="sesion"):
        parse(Ingest, event)


def test_a_bad_value_is_named() -> None:
    event = Ingest(text="hi").event()
    event.data["wait_timeout_s"] = -1

    with pytest.raises(ProtocolError, match="wait_timeout_s: input should be greater than 0"):
        parse(Ingest, event)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  hello ", "hello"),
        ("a\x00b\x07c\x1b[31m", "a b c [31m"),
        ("line\nline", "line\nline"),
        ("👩\u200d👧 and me", "👩\u200d👧 and me"),
        ("میخواهم\u200cبروم", "میخواهم\u200cبروم"),
        ("她住在大阪", "她住在大阪"),
    ],
)
def test_control_characters_become_spaces_and_scripts_survive(text: str, cleaned: str) -> None:
    assert clean_text(text, 1000) == cleaned


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", EmptyText),
        (" \t\n\x00\x1f", EmptyText),
        ("x" * 1001, TextTooLong),
        ("é" * 501, TextTooLong),
        ("half \ud83d", NotUtf8),
        (None, ProtocolError),
        (7, ProtocolError),
    ],
)
def test_text_that_is_refused(text: object, error: type[ProtocolError]) -> None:
    with pytest.raises(error):
        clean_text(text, 1000)


@given(text=st.text(max_size=200))
def test_cleaning_is_done_once(text: str) -> None:
    try:
        cleaned = clean_text(text, 10_000)
    except ProtocolError:
        return
    assert clean_text(cleaned, 10_000) == cleaned
