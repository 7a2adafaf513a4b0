"""Turns for tests of the memory: what somebody said, as it is journaled."""

from __future__ import annotations

from actors.messages import Turn
from config.settings import JournalSettings
from daemon.memory.records import Argument, Statement, TurnRecord

ROOMY = JournalSettings(max_unsynced=1000, admission_timeout_s=0.05, group_commit_ms=1.0)


def said(turn_id: str, text: str = "Emma lives in Lisbon", *, user: str = "me", session: str = "s1") -> TurnRecord:
    """A turn that was understood to say where Emma lives."""
    emma, lisbon = Argument("Emma", "PERSON"), Argument("Lisbon", "PLACE")
    return TurnRecord(
        turn=Turn(id=turn_id, user=user, session=session, speaker="user", text=text, said_at=1_750_000_000.0),
        statements=(Statement(emma, "lives_in", lisbon, "asserted", 0.9),),
        mentioned=(emma, lisbon),
        models={"extractor": "extractor@0.1.0"},
    )
