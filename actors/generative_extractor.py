"""The extractor that asks a language model, and the one-pass extractor where that gives nothing to be used."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import structlog

from actors.errors import GenerationError, GenerationTimeout, ModelLoadError, TurnTooLong, TurnUnfinished
from actors.extraction.hedging import Doubt
from actors.extractor import Extractor
from actors.generation.answer import AnswerReader
from actors.generation.prompt import Prompt, answer_schema
from actors.generator import Generator, GeneratorConfig, open_generator
from actors.messages import USER, Extraction, Request, StandIn, Turn
from config.schema import Schema, SchemaError, load_schema
from config.settings import SlmSettings
from registry.bundled import newest_bundled
from registry.versions import ModelVersion

GENERATING_SHARE = 0.8
"""Of the small model's deadline; the rest is for the one-pass extractor to stand in, and for the way."""
LONGEST_RESERVE_S = 1.0
"""More than that is not kept back for these two when the deadline is long."""
STAND_IN_RUNTIME = "onnx"
_PROBE = Turn("", USER, "", USER, "My sister Emma moved to Lisbon last week.", 0.0)

_log = structlog.get_logger(__name__)


class GenerativeExtractor:
    """The same small model, by other means.

    Turns that arrive together share one time to generate in. It lasts for `generating_s`, and ends `reserve_s` before
    the first deadline of theirs: a turn that had to wait has less of it.

    `stood_in` of an extraction tells when the newest one-pass extractor that ships with the code gave it, and why.
    """

    def __init__(
        self,
        generator: Generator,
        schema: Schema,
        config: GeneratorConfig,
        one_pass: Extractor,
        one_pass_version: str,
        generating_s: float,
        reserve_s: float,
    ) -> None:
        self._generator = generator
        self._config = config
        self._prompt = Prompt(schema, config.examples)
        self._answer_schema = answer_schema(schema)
        self._reader = AnswerReader(schema, config)
        self._doubt = Doubt(schema.hedges)
        self._one_pass, self._one_pass_version = one_pass, one_pass_version
        self._generating_s, self._reserve_s = generating_s, reserve_s

    @classmethod
    def load(cls, version: ModelVersion, settings: SlmSettings) -> Self:
        """Open the language model of the version's `generator.json`, and the one-pass extractor.

        Raises:
            ModelLoadError: a file cannot be used, what runs it is not installed, or no one-pass version can stand in.
        """
        config = GeneratorConfig.read(version.path)
        try:
            schema = load_schema()
        except SchemaError as error:
            raise ModelLoadError(f"{version}: {error}") from error
        stand_in = newest_bundled(version.manifest.name, STAND_IN_RUNTIME)
        if stand_in is None:
            raise ModelLoadError(f"{version}: no one-pass {version.manifest.name} ships with the code to stand in")
        one_pass = Extractor.load(stand_in, settings)
        generator = open_generator(version, config, settings)
        generating_s = GENERATING_SHARE * settings.deadline_s
        reserve_s = min(settings.deadline_s - generating_s, LONGEST_RESERVE_S)
        extractor = cls(generator, schema, config, one_pass, str(stand_in), generating_s, reserve_s)
        try:
            generator.prepare(extractor._prompt.messages(_PROBE))
        except GenerationError as error:
            extractor.close()
            raise ModelLoadError(f"{version}: does not run: {error}") from error
        return extractor

    def run(self, requests: Sequence[Request]) -> Sequence[Extraction]:
        """One extraction per request, in order."""
        first = min((request.deadline for request in requests), default=math.inf)
        deadline = min(time.monotonic() + self._generating_s, first - self._reserve_s)
        return [self._of_turn(request, deadline) for request in requests]

    def close(self) -> None:
        """Release the language model and the one that stands in."""
        self._generator.close()
        self._one_pass.close()

    def _of_turn(self, request: Request, deadline: float) -> Extraction:
        if not request.turn.complete:
            return self._stand_in(request, TurnUnfinished.code)
        try:
            return self._generate(request.turn, deadline)
        except GenerationError as error:
            _log.info("one_pass_stands_in", code=error.code, error=str(error))
            return self._stand_in(request, error.code)

    def _stand_in(self, request: Request, code: str) -> Extraction:
        (extraction,) = self._one_pass.run([request])
        return replace(extraction, stood_in=StandIn(self._one_pass_version, code))

    def _generate(self, turn: Turn, deadline: float) -> Extraction:
        if len(turn.text) > self._config.max_characters:
            raise TurnTooLong(f"{len(turn.text)} characters; {self._config.max_characters} are given to the model")
        if time.monotonic() >= deadline:
            raise GenerationTimeout("turns that came before it or with it took the time")
        messages = self._prompt.messages(turn)
        answer = self._generator.complete(messages, self._answer_schema, self._config.max_tokens, deadline)
        return self._doubt.lower(self._reader.read(answer, turn), turn.text)
