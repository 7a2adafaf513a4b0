"""Conversations: what the small models see of the turns before."""

from actors.messages import KnownEntity, Utterance
from daemon.session import KNOWN_ENTITIES, Conversations


def test_context_is_oldest_first_and_bounded() -> None:
    conversation = Conversations(context_turns=2, idle_s=10).get("me", "s", now=0)

    for text in ("one", "two", "three"):
        conversation.add(Utterance("user", text), ())

    assert [utterance.text for utterance in conversation.context] == ["two", "three"]


def test_known_entities_are_latest_first_without_repeats() -> None:
    conversation = Conversations(4, 10).get("me", "s", now=0)

    conversation.add(Utterance("user", "…"), [KnownEntity("Emma", "PERSON"), KnownEntity("Oslo", "LOCATION")])
    conversation.add(Utterance("user", "…"), [KnownEntity("emma", "PERSON")])

    assert [entity.name for entity in conversation.known] == ["emma", "Oslo"]


def test_known_entities_are_bounded() -> None:
    conversation = Conversations(4, 10).get("me", "s", now=0)

    conversation.add(Utterance("user", "…"), [KnownEntity(f"n{n}", "PERSON") for n in range(KNOWN_ENTITIES + 5)])

    assert len(conversation.known) == KNOWN_ENTITIES
    assert conversation.known[-1].name == "n5"


def test_while_nobody_was_named_those_of_earlier_sessions_are_known() -> None:
    spoken_of = {"me": [KnownEntity("Tom", "PERSON"), KnownEntity("Rex", "ANIMAL")]}
    conversations = Conversations(4, 10, lambda user: spoken_of.get(user, []))
    conversation = conversations.get("me", "s", now=0)
    emma = KnownEntity("Emma", "PERSON")

    assert conversations.known("me", None) == conversations.known("me", conversation) == tuple(spoken_of["me"])
    assert conversations.known("you", None) == ()
    conversation.add(Utterance("user", "…"), [emma])
    assert conversations.known("me", conversation) == (emma,)


def test_users_and_sessions_are_apart() -> None:
    conversations = Conversations(4, 10)

    conversations.get("me", "s", now=0).add(Utterance("user", "mine"), ())

    assert conversations.get("you", "s", now=0).context == ()
    assert conversations.get("me", "t", now=0).context == ()
    assert len(conversations.get("me", "s", now=0).context) == 1


def test_a_silent_session_starts_anew() -> None:
    conversations = Conversations(4, idle_s=10)
    conversations.get("me", "s", now=0).add(Utterance("user", "hi"), ())

    assert conversations.get("me", "s", now=10).context != ()
    assert conversations.get("me", "s", now=21).context == ()


def test_peeking_changes_nothing() -> None:
    conversations = Conversations(4, idle_s=10)

    assert conversations.peek("me", "s", now=0) is None
    assert len(conversations) == 0
    opened = conversations.get("me", "s", now=0)
    assert conversations.peek("me", "s", now=8) is opened
    assert conversations.peek("me", "s", now=11) is None, "a session is not kept open by being looked at"


def test_forgetting_a_user_leaves_the_others() -> None:
    conversations = Conversations(4, 10)
    for user, session in (("me", "a"), ("me", "b"), ("you", "a")):
        conversations.get(user, session, now=0).add(Utterance("user", "hi"), ())

    conversations.forget("me", "a")
    assert conversations.get("me", "a", now=0).context == ()
    assert conversations.get("me", "b", now=0).context != ()

    conversations.forget("me")
    assert conversations.get("me", "b", now=0).context == ()
    assert conversations.get("you", "a", now=0).context != ()
