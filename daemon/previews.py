"""Turns that go on: what has been said of one so far, understood and told, and nowhere kept."""

from __future__ import annotations

import asyncio
import time
import uuid
from time import perf_counter

from actors.messages import AGENT, Turn
from config.settings import Settings
from daemon.memory.statements import shipped_schema
from daemon.metrics import Metrics
from daemon.orchestrator import Orchestrator
from daemon.protocol import Preview, Previewed, clean_text
from daemon.routing import Plan, make_plan
from daemon.session import Conversations
from daemon.turns import make_record
from daemon.understood import tell


class _Growing:
    """One turn under way. `asked` counts its previews, `read` is the number of the newest that was understood."""

    def __init__(self, turn: Turn) -> None:
        self.lock = asyncio.Lock()
        self.newest = turn
        self.reply: Previewed | None = None
        self.asked = self.read = self.waiting = 0


class Previews:
    """Understands turns that go on, one preview of each at a time.

    Those that arrive meanwhile wait, and all of them get what is understood of the newest: whoever speaks faster than
    the small models read gets fewer readings, and none that is out of date.
    """

    def __init__(
        self, settings: Settings, orchestrator: Orchestrator, conversations: Conversations, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._orchestrator = orchestrator
        self._conversations = conversations
        self._metrics = metrics
        self._plan = make_plan("partial", settings.slm)
        self._growing: dict[tuple[str, str, str], _Growing] = {}

    async def preview(self, message: Preview) -> Previewed:
        """What is understood so far. Nothing is journaled, and the session stays as it is.

        Raises:
            ProtocolError: the text is empty, too long or not UTF-8.
        """
        turn = self._turn(message)
        key = (turn.user, turn.session, turn.id)
        growing = self._growing.setdefault(key, _Growing(turn))
        growing.newest = turn
        growing.asked += 1
        growing.waiting += 1
        number = growing.asked
        try:
            async with growing.lock:
                if growing.reply is None or growing.read < number:
                    newest = growing.asked
                    growing.reply = await self._understand(growing.newest)
                    growing.read = newest
                else:
                    self._metrics.previews.labels("superseded").inc()
                return growing.reply
        finally:
            growing.waiting -= 1
            if not growing.waiting:
                del self._growing[key]

    def _turn(self, message: Preview) -> Turn:
        text = clean_text(message.text, self._settings.server.max_text_bytes)
        if message.text[-1].isspace():
            text += " "  # tells that the last word has ended
        user = message.user or self._settings.user
        conversation = self._conversations.peek(user, message.session, time.monotonic())
        return Turn(
            id=message.turn_id or uuid.uuid4().hex,
            user=user,
            session=message.session,
            speaker=message.speaker,
            text=text,
            said_at=time.time(),
            context=conversation.context if conversation else (),
            known=self._conversations.known(user, conversation),
            complete=False,
        )

    async def _understand(self, turn: Turn) -> Previewed:
        started = perf_counter()
        # As with whole turns: the agent's own words are not believed.
        plan = Plan(()) if turn.speaker == AGENT else self._plan
        understanding = await self._orchestrator.understand(plan, turn)
        record = make_record(turn, understanding)
        understood = tell(understanding.answers, record.statements, shipped_schema())
        stages_s = {**understanding.stages_s, "preview": perf_counter() - started}
        self._metrics.previews.labels("partial" if understanding.missing else "whole").inc()
        for stage, spent_s in stages_s.items():
            self._metrics.preview.labels(stage).observe(spent_s)
        return Previewed(
            turn_id=turn.id,
            session=turn.session,
            understood={**understood, "text": turn.text},
            missing=dict(understanding.missing),
            models=dict(record.models),
            stages_ms={stage: round(spent_s * 1000, 3) for stage, spent_s in stages_s.items()},
        )
