"""Turns: what the journal and the session keep of one, and of one that is sent again."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from actors.local_runtime import LocalRuntime
from actors.messages import KnownEntity
from config.settings import Settings, load_settings
from daemon.errors import TurnIdReused
from daemon.memory.journal import Journal
from daemon.memory.records import TurnRecord
from daemon.metrics import Metrics
from daemon.orchestrator import Orchestrator
from daemon.protocol import Ingest
from daemon.turns import Turns
from tests.unit.spoken import ROOMY


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    off = {name: {"enabled": False} for name in ("encoder", "extractor", "classifier")}
    return load_settings(overrides={"home": str(tmp_path), "slm": off}).settings


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite", ROOMY)
    await journal.open()
    yield journal
    await journal.close()


@pytest.fixture
def turns(settings: Settings, journal: Journal) -> Turns:
    return _turns(settings, journal)


def _turns(
    settings: Settings, journal: Journal, spoken_of: Callable[[str], list[KnownEntity]] = lambda _user: []
) -> Turns:
    runtime = LocalRuntime(settings, settings.registry_root)
    return Turns(settings, Orchestrator(runtime, settings.turn.deadline_s), journal, Metrics(), spoken_of)


async def _contexts(journal: Journal) -> dict[str, list[str]]:
    records = [entry.record for entry in await journal.entries(0, 100, "user")]
    return {r.turn.id: [u.text for u in r.turn.context] for r in records if isinstance(r, TurnRecord)}


async def test_a_turn_sent_again_has_its_receipt_and_joins_the_context_once(turns: Turns, journal: Journal) -> None:
    first = await turns.ingest(Ingest(text="Emma has a dog.", turn_id="a", session="s"))
    other = await turns.ingest(Ingest(text="It is called Rex.", turn_id="b", session="s"))
    again = await turns.ingest(Ingest(text="Emma has a dog.", turn_id="a", session="s"))
    await turns.ingest(Ingest(text="He barks.", turn_id="c", session="s"))
    assert (again.seq, again.turn_id) == (first.seq, "a") != (other.seq, "a")
    assert (first.repeated, again.repeated) == (False, True)
    assert await _contexts(journal) == {
        "a": [],
        "b": ["Emma has a dog."],
        "c": ["Emma has a dog.", "It is called Rex."],
    }


async def test_a_daemon_that_started_anew_knows_the_turn_too(
    settings: Settings, turns: Turns, journal: Journal
) -> None:
    first = await turns.ingest(Ingest(text="Emma has a dog.", turn_id="a", session="s"))
    later = _turns(settings, journal)
    assert (await later.ingest(Ingest(text="Emma has a dog.", turn_id="a", session="s"))).seq == first.seq
    await later.ingest(Ingest(text="He barks.", turn_id="b", session="s"))
    assert (await _contexts(journal))["b"] == []


async def test_a_clock_that_steps_back_over_a_restart_dates_nothing_before_what_is_known(
    settings: Settings, turns: Turns, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 7200)
    await turns.ingest(Ingest(text="Emma has a dog.", turn_id="a", session="s"))
    await journal.close()
    monkeypatch.setattr(time, "time", lambda: now)
    again = Journal(tmp_path / "journal.sqlite", ROOMY)
    await again.open()
    await _turns(settings, again).ingest(Ingest(text="Emma has a cat.", turn_id="b", session="s"))
    said_at = [entry.record.turn.said_at for entry in await again.entries(0, 9, "user")]  # type: ignore[union-attr]
    assert said_at == sorted(set(said_at))
    await again.close()


async def test_an_id_used_for_other_words_is_refused_and_leaves_no_trace(turns: Turns, journal: Journal) -> None:
    await turns.ingest(Ingest(text="Emma has a dog.", turn_id="a", session="s"))
    with pytest.raises(TurnIdReused):
        await turns.ingest(Ingest(text="Emma has a cat.", turn_id="a", session="s"))
    await turns.ingest(Ingest(text="He barks.", turn_id="b", session="s"))
    assert (await _contexts(journal))["b"] == ["Emma has a dog."]


async def test_pronouns_may_mean_those_of_earlier_sessions_while_nobody_was_named(
    settings: Settings, journal: Journal
) -> None:
    emma = KnownEntity("Emma", "PERSON")
    turns = _turns(settings, journal, lambda user: [emma] if user == "me" else [])
    await turns.ingest(Ingest(text="She moved to Porto.", turn_id="mine", session="s"))
    await turns.ingest(Ingest(text="She moved to Porto.", turn_id="hers", session="s", user="ana"))
    records = [entry.record for entry in await journal.entries(0, 100, "user")]
    assert {r.turn.id: r.turn.known for r in records if isinstance(r, TurnRecord)} == {"mine": (emma,), "hers": ()}


async def test_offsets_count_in_the_text_that_the_reply_tells(turns: Turns) -> None:
    reply = await turns.ingest(Ingest(text=" \u0007My sister Emma ", session="s"))
    assert reply.understood["text"] == "My sister Emma"
