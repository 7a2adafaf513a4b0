"""Previews: turns that go on, read one at a time and kept nowhere; and what a recogniser streams."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import SlmTimeout
from actors.messages import Answer, Extraction, HostHealth, KnownEntity, Mention, Request, Turn, Utterance
from config.settings import Settings, load_settings
from daemon.dictation import Dictation
from daemon.errors import EmptyText, ProtocolError, TextTooLong
from daemon.metrics import Metrics
from daemon.orchestrator import Orchestrator
from daemon.previews import Previews
from daemon.protocol import Preview, Previewed, parse
from daemon.session import Conversations


class Reading:
    """A runtime that finds the first word of a turn, once `may` lets it; `read` is what it was given."""

    def __init__(self) -> None:
        self.read: list[Turn] = []
        self.may = asyncio.Event()
        self.may.set()
        self.slow = False

    async def start(self) -> None:
        """Nothing to start."""

    async def call(self, slm: str, request: Request, deadline_s: float) -> Answer:
        assert slm == "extractor"
        assert 0 < deadline_s <= 0.5
        self.read.append(request.turn)
        if self.slow:
            raise SlmTimeout(slm)
        await self.may.wait()
        word = request.turn.text.split()[0]
        return Answer(Extraction((Mention(word, "PERSON", 0, len(word), 0.9),), (), ()), "extractor@1.0.0", 0.0, 0.01)

    async def swap(self, slm: str, version: str) -> None:
        """Not used here."""

    async def health(self) -> Sequence[HostHealth]:
        return []

    async def stop(self, drain_timeout_s: float) -> None:
        """Nothing to stop."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(overrides={"home": str(tmp_path)}).settings


@pytest.fixture
def runtime() -> Reading:
    return Reading()


@pytest.fixture
def conversations() -> Conversations:
    return Conversations(4, 1800)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def previews(settings: Settings, runtime: Reading, conversations: Conversations, metrics: Metrics) -> Previews:
    return Previews(settings, Orchestrator(runtime, settings.turn.deadline_s), conversations, metrics)


def counted(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


async def test_what_has_been_said_so_far_is_told_in_the_contract_of_turns(
    previews: Previews, runtime: Reading, metrics: Metrics
) -> None:
    reply = await previews.preview(Preview(text="Emma lives", turn_id="a", session="s"))
    assert (reply.turn_id, reply.session, reply.missing) == ("a", "s", {})
    assert reply.models == {"extractor": "extractor@1.0.0"}
    assert [entity["text"] for entity in reply.understood["extractor"]["entities"]] == ["Emma"]
    assert set(reply.stages_ms) == {"extractor", "preview"}
    assert not runtime.read[0].complete
    assert parse(Previewed, reply.event()) == reply
    assert counted(metrics, "shoal_previews_total", outcome="whole") == 1
    assert counted(metrics, "shoal_preview_seconds_count", stage="preview") == 1
    assert counted(metrics, "shoal_turns_total", outcome="whole") == 0


async def test_a_turn_without_an_id_gets_one(previews: Previews) -> None:
    one, two = [await previews.preview(Preview(text="Emma lives")) for _ in range(2)]
    assert one.turn_id
    assert one.turn_id != two.turn_id


async def test_a_session_is_seen_and_stays_as_it_is(
    previews: Previews, runtime: Reading, conversations: Conversations
) -> None:
    await previews.preview(Preview(text="She lives", user="me", session="s"))
    assert len(conversations) == 0, "no session begins with a preview"
    conversation = conversations.get("me", "s", asyncio.get_running_loop().time())
    conversation.add(Utterance("user", "I met Emma."), [KnownEntity("Emma", "PERSON")])
    async with conversation.lock:  # a turn of the session is on its way to the journal
        await previews.preview(Preview(text="She lives", user="me", session="s"))
    assert [turn.context for turn in runtime.read] == [(), (Utterance("user", "I met Emma."),)]
    assert runtime.read[1].known == (KnownEntity("Emma", "PERSON"),)
    assert len(conversation.context) == 1


@pytest.mark.parametrize(("sent", "read"), [("  Emma\x07lives", "Emma lives"), ("Emma lives ", "Emma lives ")])
async def test_a_space_at_the_end_is_kept_for_it_ends_the_word(
    previews: Previews, runtime: Reading, sent: str, read: str
) -> None:
    reply = await previews.preview(Preview(text=sent))
    assert runtime.read[0].text == reply.understood["text"] == read


async def test_of_previews_that_wait_the_newest_is_read_for_all(
    previews: Previews, runtime: Reading, metrics: Metrics
) -> None:
    runtime.may.clear()
    said = "Emma lives in Lisbon now.".split()
    asked = [
        asyncio.create_task(previews.preview(Preview(text=" ".join(said[:words]), turn_id="a")))
        for words in range(1, len(said) + 1)
    ]
    other = asyncio.create_task(previews.preview(Preview(text="Tom", turn_id="a", user="somebody else")))
    while len(runtime.read) < 2:
        await asyncio.sleep(0)
    assert [turn.text for turn in runtime.read] == ["Emma", "Tom"], "one of each turn at a time"
    runtime.may.set()
    replies = await asyncio.gather(*asked)
    assert [turn.text for turn in runtime.read] == ["Emma", "Tom", "Emma lives in Lisbon now."]
    assert [reply.understood["text"] for reply in replies] == ["Emma", *["Emma lives in Lisbon now."] * 4]
    assert (await other).understood["text"] == "Tom"
    assert counted(metrics, "shoal_previews_total", outcome="superseded") == 3
    assert previews._growing == {}


async def test_a_preview_that_nobody_awaits_any_more_holds_up_no_other(previews: Previews, runtime: Reading) -> None:
    runtime.may.clear()
    gone, waits = (asyncio.create_task(previews.preview(Preview(text=text, turn_id="a"))) for text in ("Em", "Emma"))
    while not runtime.read:
        await asyncio.sleep(0)
    gone.cancel()
    runtime.may.set()
    assert (await waits).understood["text"] == "Emma"
    assert previews._growing == {}


async def test_a_small_model_that_is_late_is_missing(previews: Previews, runtime: Reading, metrics: Metrics) -> None:
    runtime.slow = True
    reply = await previews.preview(Preview(text="Emma lives"))
    assert reply.missing == {"extractor": "slm_timeout"}
    assert reply.understood == {"statements": [], "text": "Emma lives"}
    assert counted(metrics, "shoal_previews_total", outcome="partial") == 1


async def test_the_agents_own_words_are_not_understood(previews: Previews, runtime: Reading) -> None:
    reply = await previews.preview(Preview(text="Emma lives", speaker="agent"))
    assert (reply.understood, runtime.read) == ({"statements": [], "text": "Emma lives"}, [])


@pytest.mark.parametrize(("text", "error"), [(" \t", EmptyText), ("", EmptyText), ("x" * 70_000, TextTooLong)])
async def test_text_that_no_turn_may_have_is_refused(previews: Previews, text: str, error: type[ProtocolError]) -> None:
    with pytest.raises(error):
        await previews.preview(Preview(text=text))
    assert previews._growing == {}


# --- what a recogniser streams --------------------------------------------------------------------------


@given(chunks=st.lists(st.sampled_from(["", " ", "Em", "ma ", "lives", "."]), max_size=8))
def test_chunks_become_one_turn(chunks: list[str]) -> None:
    dictation = Dictation({"user": "me", "session": "s"})
    said = ""
    for chunk in chunks:
        said += chunk
        preview = dictation.grow(chunk, 1000)
        assert preview == (Preview(text=said, **dictation.named) if said.strip() else None)
    whole = dictation.whole()
    assert (whole.text, whole.user, whole.session, whole.turn_id) == (said, "me", "s", dictation.begun().turn_id)


def test_a_final_transcript_is_the_turn_in_place_of_the_chunks() -> None:
    dictation = Dictation({"user": "me"})
    dictation.grow("emma lifts in ", 1000)
    whole = dictation.finish("Emma lives in Lisbon.", {"session": "s"})
    assert whole == dictation.whole()
    assert (whole.text, whole.user, whole.session) == ("Emma lives in Lisbon.", "me", "s")


@pytest.mark.parametrize("chunk", [None, 7, "x" * 600, " " * 600, "\ud83d"])
def test_chunks_that_are_refused(chunk: object) -> None:
    dictation = Dictation({})
    dictation.grow("x" * 500, 1000)
    with pytest.raises(ProtocolError):
        dictation.grow(chunk, 1000)


@pytest.mark.parametrize("named", [{"session": 7}, {"user": ""}, {"turn_id": "x" * 200}])
def test_who_cannot_be_named_is_refused_at_the_beginning(named: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        Dictation(named)
