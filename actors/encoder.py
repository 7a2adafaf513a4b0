"""The shared encoder: a turn's text becomes vectors that the heads of other small models read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from actors.errors import ModelLoadError
from actors.messages import Encoding, Request
from actors.runtimes.onnx import open_session, open_tokenizer
from config.settings import SlmSettings
from registry.versions import ModelVersion

if TYPE_CHECKING:
    import onnxruntime as ort
    from tokenizers import Tokenizer

DIMENSIONS = 384
MAX_TOKENS = 128
# Of a huge text only the first 128 tokens are read; cutting it first spares tokenizing the rest.
MAX_CHARACTERS = 4096


class Encoder:
    """MiniLM-L6 with mean pooling and normalisation inside the graph.

    Texts are run one by one: on a CPU the padding of a mixed batch costs more than the batch saves (5.6 against 3.5 ms
    a text at eight), and a vector must not depend on the texts that happened to arrive with it.
    """

    def __init__(self, session: ort.InferenceSession, tokenizer: Tokenizer) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    @classmethod
    def load(cls, version: ModelVersion, settings: SlmSettings) -> Self:
        """Open `encoder.onnx` and `tokenizer.json`. Raises: ModelLoadError."""
        session = open_session(version.path / "encoder.onnx", settings.threads)
        encoder = cls(session, open_tokenizer(version.path / "tokenizer.json"))
        try:
            probe = encoder.encode("warm up").array()
        except Exception as error:  # onnxruntime's exceptions share no base below Exception
            raise ModelLoadError(f"{version}: does not run: {error}") from error
        if probe.shape != (DIMENSIONS,) or not np.isclose(np.linalg.norm(probe), 1.0, atol=1e-3):
            raise ModelLoadError(f"{version}: gives shape {probe.shape}, not a unit vector of {DIMENSIONS}")
        return encoder

    def run(self, requests: Sequence[Request]) -> Sequence[Encoding]:
        """One encoding per request, in order."""
        return [self.encode(request.turn.text) for request in requests]

    def encode(self, text: str) -> Encoding:
        """The encoding of any text; only its first 128 tokens count."""
        # JSON can carry lone surrogates, which no UTF-8 tokenizer takes.
        clean = text[:MAX_CHARACTERS].encode("utf-8", "replace").decode()
        ids = np.array([self._tokenizer.encode(clean).ids], dtype=np.int64)
        outputs = self._session.run(["vector", "layers"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        return Encoding(*(np.asarray(output[0], dtype="<f4").tobytes() for output in outputs))

    def close(self) -> None:
        """The session's memory goes with the last reference to it."""
        del self._session
