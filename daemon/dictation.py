"""A recogniser's streaming transcript: its chunks are one turn that grows, its end is the turn."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from wyoming.event import Event

from daemon.errors import EmptyText, ProtocolError
from daemon.protocol import Ingest, Ingested, Preview, Previewed, clean_text, parse


class Dictation:
    """What a recogniser has said of one turn, on one connection. It ends in one ingested turn, or in none.

    Raises, where it begins: ProtocolError when `named` (user, session, speaker, turn_id) cannot name a turn.
    """

    def __init__(self, named: Mapping[str, Any]) -> None:
        self.named = {"turn_id": uuid.uuid4().hex, **named}
        self.ingested: Ingested | None = None
        self._text = ""
        self.whole()

    def grow(self, chunk: object, max_bytes: int) -> Preview | None:
        """What has been said with this chunk, None while nothing printable has. Raises: ProtocolError."""
        if not isinstance(chunk, str):
            raise ProtocolError("transcript-chunk: `text` is no string")
        self._text += chunk
        try:
            clean_text(self._text, max_bytes)
        except EmptyText:
            return None
        return Preview(text=self._text, **self.named)

    def finish(self, text: str, named: Mapping[str, Any]) -> Ingest:
        """The whole turn in the words of a final transcript, which stand from now on. Raises: ProtocolError."""
        self._text = text
        self.named |= named
        return self.whole()

    def whole(self) -> Ingest:
        """The whole turn: all chunks, unless a final transcript said it better. Raises: ProtocolError."""
        message = parse(Ingest, Event(Ingest.TYPE, {"text": self._text, **self.named}))
        assert isinstance(message, Ingest)  # noqa: S101 - parse validates into the type it is given
        return message

    def begun(self) -> Previewed:
        """The reply to the beginning: whose words are awaited, and nothing understood yet."""
        return Previewed(
            turn_id=self.named["turn_id"],
            session=self.whole().session,
            understood={"statements": [], "text": ""},
            missing={},
            models={},
            stages_ms={},
        )
