"""GGUF weights, run in process by llama.cpp (package xllamacpp), held to a JSON Schema by its grammars."""

from __future__ import annotations

import math
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xllamacpp

from actors.errors import GenerationTimeout, GeneratorUnavailable, ModelLoadError
from actors.generator import Message

_QUIET = -1


class GgufGenerator:
    """One GGUF model. llama.cpp keeps the prompt's part that two calls share, so instructions are read once."""

    def __init__(self, weights: Path, context_tokens: int, threads: int) -> None:
        """Raises: ModelLoadError."""
        if not weights.is_file():
            raise ModelLoadError(f"{weights.name}: missing")
        # llama.cpp's server listens even when it is called in process: on a socket that nobody else can reach or guess.
        self._folder = tempfile.mkdtemp(prefix="shoal-")
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(weights)
        parameters.hostnames = [f"{self._folder}/model.sock"]
        parameters.api_keys = [secrets.token_hex(16)]
        parameters.offline = True
        parameters.ui = parameters.endpoint_slots = False
        parameters.n_ctx = context_tokens
        parameters.n_parallel = parameters.n_threads_http = 1
        parameters.cache_ram_mib = 0  # one slot's cache is all that is ever of use
        parameters.verbosity = _QUIET
        for cpu in (parameters.cpuparams, parameters.cpuparams_batch):
            cpu.n_threads = threads
            cpu.poll = 0  # threads that spin would take the cores from the models beside this one
        try:
            self._server = xllamacpp.Server(parameters)
        except RuntimeError as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise ModelLoadError(f"{weights.name}: llama.cpp cannot use it: {error}") from error

    def complete(
        self, messages: Sequence[Message], json_schema: Mapping[str, Any], max_tokens: int, deadline: float
    ) -> str:
        form = {"name": "answer", "strict": True, "schema": dict(json_schema)}
        constraint = {"response_format": {"type": "json_schema", "json_schema": form}}
        return self._complete({"messages": list(messages), "max_tokens": max_tokens, **constraint}, deadline)

    def prepare(self, messages: Sequence[Message]) -> None:
        self._complete({"messages": list(messages), "max_tokens": 1}, math.inf)

    def close(self) -> None:
        """Stop llama.cpp and remove its socket."""
        del self._server
        shutil.rmtree(self._folder, ignore_errors=True)

    def _complete(self, request: Mapping[str, Any], deadline: float) -> str:
        pieces: list[str] = []
        failures: list[str] = []
        finished = late = False

        def receive(event: Mapping[str, Any]) -> bool:
            """Take one event; True ends the generation."""
            nonlocal finished, late
            if "choices" not in event:
                failures.append(str(event.get("error", event))[:200])
                return True
            for choice in event["choices"]:
                pieces.append(choice["delta"].get("content") or "")
                finished = finished or choice["finish_reason"] is not None
            late = not finished and time.monotonic() >= deadline
            return late

        # Without reports of progress a long prompt would be read to its end, whatever the time.
        always = {"temperature": 0, "stream": True, "return_progress": True, "cache_prompt": True}
        try:
            self._server.handle_chat_completions({**request, **always}, receive)
        except RuntimeError as error:
            raise GeneratorUnavailable(f"llama.cpp: {error}") from error
        if late:
            raise GenerationTimeout("the model did not finish in time")
        if failures:
            raise GeneratorUnavailable(f"llama.cpp: {failures[0]}")
        return "".join(pieces)
