"""MLX weights, run by mlx-lm: on Apple's GPUs, or on a CPU with `mlx[cpu]`. Nothing holds the model to a schema."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# A version's folder holds all there is; a name that is no folder must not become a download.
os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
if sys.platform != "darwin":
    # On a CPU it would compile kernels with any g++ there is, into a folder in /tmp whose name can be guessed.
    os.environ.setdefault("MLX_DISABLE_COMPILE", "1")

import mlx_lm
from mlx_lm.models.cache import can_trim_prompt_cache, make_prompt_cache, trim_prompt_cache

from actors.errors import GenerationTimeout, GeneratorUnavailable, ModelLoadError
from actors.generator import Message

_PREFILL_TOKENS = 256
_CODE_KEYS = frozenset({"model_file", "auto_map"})


class MlxGenerator:
    """One MLX model. It keeps what it computed for the part of the prompt that the next call has in common."""

    def __init__(self, folder: Path) -> None:
        """Raises: ModelLoadError."""
        try:
            config = json.loads((folder / "config.json").read_bytes())
            if named := sorted(_CODE_KEYS & config.keys()):
                raise ModelLoadError(f"config.json: {named[0]} names code to be run, which no version may bring")
            self._model, self._tokenizer = mlx_lm.load(str(folder))[:2]
        except ModelLoadError:
            raise
        except Exception as error:  # mlx, mlx-lm and transformers raise what they like for a bad file
            raise ModelLoadError(f"mlx-lm cannot use it: {type(error).__name__}: {error}") from error
        self._cache: list[Any] = []
        self._cached: list[int] = []

    def complete(
        self,
        messages: Sequence[Message],
        json_schema: Mapping[str, Any],  # noqa: ARG002 - mlx-lm has no grammars
        max_tokens: int,
        deadline: float,
    ) -> str:
        try:
            prompt: list[int] = self._tokenizer.apply_chat_template(list(messages), add_generation_prompt=True)
            return self._generate(prompt, max_tokens, deadline)
        except GenerationTimeout:
            raise
        except Exception as error:
            raise GeneratorUnavailable(f"mlx-lm: {type(error).__name__}: {error}") from error

    def prepare(self, messages: Sequence[Message]) -> None:
        self.complete(messages, {}, 1, math.inf)

    def close(self) -> None:
        """The weights' memory goes with the last reference to them."""
        del self._model, self._tokenizer, self._cache

    def _generate(self, prompt: list[int], max_tokens: int, deadline: float) -> str:
        def check(*_: object) -> None:
            if time.monotonic() >= deadline:
                raise GenerationTimeout("the model did not finish in time")

        shared = self._reuse(prompt)
        pieces: list[str] = []
        try:
            for response in mlx_lm.stream_generate(
                self._model,
                self._tokenizer,
                prompt[shared:],
                max_tokens,
                prompt_cache=self._cache,
                prefill_step_size=_PREFILL_TOKENS,
                prompt_progress_callback=check,
            ):
                pieces.append(response.text)
                if response.finish_reason is None:
                    check()
        finally:
            # Kept after a timeout too: the next call goes on from here instead of running out of time as this one did.
            self._cached = prompt[: self._cache[0].offset]
        return "".join(pieces)

    def _reuse(self, prompt: list[int]) -> int:
        """How many tokens of the prompt the cache holds already, once it is cut down to them."""
        shared = 0
        # The last token is always read again: its output begins the answer.
        for kept, wanted in zip(self._cached, prompt[:-1], strict=False):
            if kept != wanted:
                break
            shared += 1
        if shared and can_trim_prompt_cache(self._cache):
            trim_prompt_cache(self._cache, self._cache[0].offset - shared)
            return shared
        self._cache = make_prompt_cache(self._model)
        return 0
