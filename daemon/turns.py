"""The way of a turn: text -> small models -> statements -> journal -> receipt."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from time import perf_counter

from actors.errors import ActorError, SlmDisabled
from actors.messages import AGENT, Classification, Extraction, KnownEntity, Turn, Utterance
from config.settings import Settings
from daemon.clock import Clock
from daemon.memory.journal import Journal
from daemon.memory.records import TurnRecord
from daemon.memory.statements import build, shipped_schema
from daemon.metrics import Metrics
from daemon.orchestrator import Orchestrator, Understanding
from daemon.protocol import Ingest, Ingested, clean_text
from daemon.routing import Plan, make_plan
from daemon.session import Conversations
from daemon.understood import tell

EXTRACTOR, CLASSIFIER = "extractor", "classifier"


class Turns:
    """Accepts turns: what comes back is on disk."""

    def __init__(
        self,
        settings: Settings,
        orchestrator: Orchestrator,
        journal: Journal,
        metrics: Metrics,
        spoken_of: Callable[[str], Iterable[KnownEntity]] = lambda _user: (),
    ) -> None:
        """`spoken_of` gives those that a user's earlier sessions spoke of, latest first."""
        self._settings = settings
        self._orchestrator = orchestrator
        self._journal = journal
        self._clock = Clock(journal.last_recorded_at)
        self._metrics = metrics
        self._plan = make_plan("text", settings.slm)
        self.conversations = Conversations(settings.turn.context_turns, settings.turn.session_idle_s, spoken_of)

    async def ingest(self, message: Ingest) -> Ingested:
        """Understand a turn and journal it. One that is sent again gets the receipt that it had, and is no other turn.

        Raises:
            ProtocolError: the text is empty, too long or not UTF-8.
            TurnIdReused: another text has this id.
            JournalFull, JournalCorrupt, JournalUnavailable, RecordRejected, Backpressure: it was not accepted.
        """
        started = perf_counter()
        turn_text = clean_text(message.text, self._settings.server.max_text_bytes)
        user = message.user or self._settings.user
        conversation = self.conversations.get(user, message.session, time.monotonic())
        async with conversation.lock:
            turn = Turn(
                id=message.turn_id or uuid.uuid4().hex,
                user=user,
                session=message.session,
                speaker=message.speaker,
                text=turn_text,
                said_at=self._clock.now() if message.said_at is None else message.said_at,
                context=conversation.context,
                known=self.conversations.known(user, conversation),
            )
            # The agent's own words are kept, not believed: no small model runs on them.
            plan = Plan(()) if turn.speaker == AGENT else self._plan
            understanding = await self._orchestrator.understand(plan, turn)
            understood_at = perf_counter()
            record = make_record(turn, understanding)
            stated_at = perf_counter()
            entry = await self._journal.append(record)
            journaled_at = perf_counter()
            if not entry.repeated:
                conversation.add(
                    Utterance(turn.speaker, turn.text),
                    (KnownEntity(argument.name, argument.type) for argument in record.mentioned),
                )
        stages_s = {
            **understanding.stages_s,
            "understand": understood_at - started,
            "facts": stated_at - understood_at,
            "journal": journaled_at - stated_at,
            "turn": journaled_at - started,
        }
        self._measure(understanding, stages_s)
        return Ingested(
            turn_id=turn.id,
            seq=entry.seq,
            session=turn.session,
            understood={**tell(understanding.answers, record.statements, shipped_schema()), "text": turn.text},
            repeated=entry.repeated,
            missing=dict(understanding.missing),
            models=dict(record.models),
            stages_ms={stage: round(spent_s * 1000, 3) for stage, spent_s in stages_s.items()}
            | {"model_time": round(understanding.model_time_s * 1000, 3)},
        )

    async def complete(self, record: TurnRecord) -> TurnRecord:
        """Make up for an extraction that a turn had to go without. Raises: ActorError."""
        step = next((step for step in self._plan.steps if step.slm == EXTRACTOR), None)
        if step is None:
            return record
        answer = await self._orchestrator.again(step, record.turn)
        extraction = answer.result
        if not isinstance(extraction, Extraction):
            raise ActorError(f"{EXTRACTOR} gave {type(extraction).__name__}")
        statements, mentioned = build(record.turn, extraction)
        return replace(
            record,
            statements=statements,
            mentioned=mentioned,
            extraction=extraction,
            models=_who_answered({**record.models, EXTRACTOR: answer.model}, extraction),
            missing=tuple(slm for slm in record.missing if slm != EXTRACTOR),
        )

    def _measure(self, understanding: Understanding, stages_s: dict[str, float]) -> None:
        metrics = self._metrics
        metrics.turns.labels("partial" if understanding.missing else "whole").inc()
        metrics.turn.observe(stages_s["turn"])
        metrics.overhead.observe(max(0.0, stages_s["turn"] - understanding.model_time_s))
        for stage, spent_s in stages_s.items():
            metrics.stage.labels(stage).observe(spent_s)
        for slm, answer in understanding.answers.items():
            metrics.model.labels(slm).observe(answer.computed_s)
        for slm, code in understanding.missing.items():
            metrics.missing.labels(slm, code).inc()


def make_record(turn: Turn, understanding: Understanding) -> TurnRecord:
    """What is journaled of a turn and its understanding."""
    extraction, classification = understanding.result(EXTRACTOR), understanding.result(CLASSIFIER)
    record = TurnRecord(
        turn=turn,
        classification=classification if isinstance(classification, Classification) else None,
        models=understanding.models,
        # What the settings switch off is not made up for later.
        missing=tuple(slm for slm, code in understanding.missing.items() if code != SlmDisabled.code),
    )
    if not isinstance(extraction, Extraction):
        return record
    statements, mentioned = build(turn, extraction)
    return replace(
        record,
        statements=statements,
        mentioned=mentioned,
        extraction=extraction,
        models=_who_answered(record.models, extraction),
    )


def _who_answered(models: Mapping[str, str], extraction: Extraction) -> dict[str, str]:
    # A fact's provenance names the version that found it, not the one that was asked.
    return {**models, EXTRACTOR: extraction.stood_in.model} if extraction.stood_in else dict(models)
