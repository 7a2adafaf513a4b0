"""Conversations under way: what the small models see of the turns before."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from actors.messages import KnownEntity, Utterance

KNOWN_ENTITIES = 32
"""How many lately named entities a session offers as candidates for pronouns."""


class Conversation:
    """One session of one user. `lock` keeps its turns in the order in which they came."""

    def __init__(self, context_turns: int) -> None:
        self.lock = asyncio.Lock()
        self.last_at = 0.0
        self._turns: deque[Utterance] = deque(maxlen=context_turns)
        self._known: OrderedDict[str, KnownEntity] = OrderedDict()

    @property
    def context(self) -> tuple[Utterance, ...]:
        """The turns before, oldest first."""
        return tuple(self._turns)

    @property
    def known(self) -> tuple[KnownEntity, ...]:
        """Entities named in the session, latest first."""
        return tuple(reversed(self._known.values()))

    def add(self, utterance: Utterance, named: Iterable[KnownEntity]) -> None:
        """Remember an accepted turn."""
        self._turns.append(utterance)
        for entity in named:
            key = entity.name.casefold()
            self._known[key] = entity
            self._known.move_to_end(key)
        while len(self._known) > KNOWN_ENTITIES:
            self._known.popitem(last=False)


class Conversations:
    """Every session that had a turn within `idle_s` seconds; the rest are let go."""

    def __init__(
        self, context_turns: int, idle_s: float, spoken_of: Callable[[str], Iterable[KnownEntity]] = lambda _user: ()
    ) -> None:
        """`spoken_of` gives those that a user's earlier sessions spoke of, latest first."""
        self._context_turns = context_turns
        self._idle_s = idle_s
        self._spoken_of = spoken_of
        self._open: OrderedDict[tuple[str, str], Conversation] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def get(self, user: str, session: str, now: float) -> Conversation:
        """The session's conversation, a new one after a long silence. `now` is monotonic, in seconds."""
        self._expire(now)
        key = (user, session)
        conversation = self._open.setdefault(key, Conversation(self._context_turns))
        conversation.last_at = now
        self._open.move_to_end(key)
        return conversation

    def known(self, user: str, conversation: Conversation | None) -> tuple[KnownEntity, ...]:
        """Whom pronouns may mean: those named in the conversation; while nobody was, those of earlier ones."""
        return (conversation.known if conversation else ()) or tuple(self._spoken_of(user))

    def peek(self, user: str, session: str, now: float) -> Conversation | None:
        """The session's conversation as it stands, None where none goes on. It is not kept open by this."""
        self._expire(now)
        return self._open.get((user, session))

    def forget(self, user: str, session: str | None = None) -> None:
        """Drop one session of a user, or all of them."""
        for key in [key for key in self._open if key[0] == user and session in (None, key[1])]:
            del self._open[key]

    def _expire(self, now: float) -> None:
        while self._open:
            key, oldest = next(iter(self._open.items()))
            if now - oldest.last_at <= self._idle_s or oldest.lock.locked():
                return
            del self._open[key]
