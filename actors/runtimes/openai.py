"""Language models behind a server that speaks OpenAI's chat completions: llama-server, Ollama, LM Studio, vLLM, MLX.

Written on `http.client`: it follows no redirect and no proxy from the environment, so what is said goes to the one
host that was checked.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import structlog

from actors.errors import GenerationError, GenerationTimeout, GeneratorUnavailable, ModelLoadError
from actors.generator import Message
from config.settings import ModelServerSettings

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
MAX_REPLY_BYTES = 4 << 20
_PROBE_S, _LONGEST_S = 1.0, 3600.0
_CHUNK_BYTES = 64 << 10
_CONNECTIONS = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}

_log = structlog.get_logger(__name__)


class OpenAIGenerator:
    """A model of a server on this machine, or on a host that the settings allow.

    A server that is not there yet keeps nothing from starting: each call that it does not answer fails by itself.
    """

    def __init__(self, base_url: str, model: str, settings: ModelServerSettings) -> None:
        """Raises: ModelLoadError when the address or the key is none, or leads off this machine without leave."""
        address = urlsplit(settings.base_url or base_url)
        try:
            host, port = address.hostname or "", address.port
        except ValueError as error:
            raise ModelLoadError(f"{base_url}: {error}") from error
        if address.scheme not in _CONNECTIONS or not host:
            raise ModelLoadError(f"{address.geturl()}: allowed is http://HOST:PORT/v1, or https")
        if host not in LOOPBACK and host not in settings.allowed_hosts:
            raise ModelLoadError(
                f"{host} is another machine: what is said would be sent there; `server.allowed_hosts` in the small "
                "model's settings block permits it"
            )
        self._connection, self._host, self._port = _CONNECTIONS[address.scheme], host, port
        self._path = address.path.rstrip("/")
        self._model = model
        self._key = settings.api_key.get_secret_value().strip()  # read from a file, it often ends in a newline
        if not (self._key.isascii() and self._key.isprintable()):
            # Told here: http.client would quote the whole key in its error.
            raise ModelLoadError("`server.api_key` in the small model's settings block holds what no header takes")
        self._constrained = True

    def complete(
        self, messages: Sequence[Message], json_schema: Mapping[str, Any], max_tokens: int, deadline: float
    ) -> str:
        body: dict[str, Any] = {
            "model": self._model, "messages": list(messages), "max_tokens": max_tokens, "temperature": 0,
        }  # fmt: skip
        if self._constrained:
            form = {"name": "answer", "strict": True, "schema": json_schema}
            status, reply = self._post(
                body | {"response_format": {"type": "json_schema", "json_schema": form}}, deadline
            )
            if status not in (400, 422, 501):
                return _content(status, reply)
            # A prompt that is too long is refused in the same way: only an answer now shows that it was the schema.
            answer = _content(*self._post(body, deadline))
            _log.warning("model_server_takes_no_schema", status=status)
            self._constrained = False  # its answers are repaired from now on
            return answer
        return _content(*self._post(body, deadline))

    def prepare(self, messages: Sequence[Message]) -> None:  # noqa: ARG002 - what is read once is the server's affair
        """Tell the log when no server answers."""
        try:
            status, _ = self._exchange("GET", f"{self._path}/models", None, time.monotonic() + _PROBE_S)
            trouble = "" if status == http.HTTPStatus.OK else f"HTTP status {status}"
        except GenerationError as error:
            trouble = str(error)
        if trouble:
            _log.warning("model_server_does_not_answer", error=trouble)

    def close(self) -> None:
        """Nothing is kept open between two calls."""

    def _post(self, body: Mapping[str, Any], deadline: float) -> tuple[int, bytes]:
        return self._exchange("POST", f"{self._path}/chat/completions", json.dumps(body).encode(), deadline)

    def _exchange(self, method: str, path: str, body: bytes | None, deadline: float) -> tuple[int, bytes]:
        connection = self._connection(self._host, self._port, timeout=_left_s(deadline))
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        try:
            connection.request(method, path, body, headers)
            _set_timeout(connection, deadline)
            with connection.getresponse() as response:
                reply = bytearray()
                # A server may drip: every piece has only what is left of the time.
                while piece := response.read1(_CHUNK_BYTES):
                    reply += piece
                    if len(reply) > MAX_REPLY_BYTES:
                        raise GeneratorUnavailable("the model's server does not stop")
                    _set_timeout(connection, deadline)
        except TimeoutError:
            raise GenerationTimeout("the model's server did not answer in time") from None
        except (OSError, http.client.HTTPException) as error:
            raise GeneratorUnavailable(f"the model's server: {type(error).__name__}: {error}") from error
        else:
            return response.status, bytes(reply)
        finally:
            connection.close()


def _left_s(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise GenerationTimeout("no time left to ask the model's server")
    return min(left_s, _LONGEST_S)  # a socket takes no infinite time-out


def _set_timeout(connection: http.client.HTTPConnection, deadline: float) -> None:
    if connection.sock is not None:  # it hangs up once it has said all
        connection.sock.settimeout(_left_s(deadline))


def _content(status: int, reply: bytes) -> str:
    if status != http.HTTPStatus.OK:
        raise GeneratorUnavailable(f"the model's server answered with HTTP status {status}")
    try:
        content = json.loads(reply)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError) as error:
        raise GeneratorUnavailable(f"the model's server answered with no chat completion: {error!r}") from error
    return content if isinstance(content, str) else ""
