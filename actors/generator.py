"""A local language model: chat messages in, text out. Which runtime runs it is told by the version's manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on only

from actors.errors import ModelLoadError
from config.settings import SlmSettings
from registry.versions import ModelVersion

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = "generator.json"


class Message(TypedDict):
    """One message of a chat; `role` is "system", "user" or "assistant"."""

    role: str
    content: str


class Generator(Protocol):
    """A loaded language model. It answers one chat at a time."""

    def complete(
        self, messages: Sequence[Message], json_schema: Mapping[str, Any], max_tokens: int, deadline: float
    ) -> str:
        """The model's answer, JSON that is valid against `json_schema` where the runtime can hold the model to it.

        `deadline` is a `time.monotonic()` in seconds.

        Raises:
            GenerationTimeout: no whole answer by the deadline.
            GeneratorUnavailable: what runs the model does not work, now.
        """

    def prepare(self, messages: Sequence[Message]) -> None:
        """Read once what every chat begins with, so that no turn waits for it. Raises: GenerationError."""

    def close(self) -> None:
        """Release what was opened. Called once."""


class GeneratorConfig(BaseModel):
    """`generator.json` of a version: what is asked of the model, and where it is when no file of the version is it.

    `weights` is the GGUF file's name in the version's folder; for "mlx" the folder itself is the model. `base_url` and
    `model` say where an OpenAI-compatible server is and what it calls the model. `examples` are turns of a chat that
    show the model what is wanted. `trust` is what its word is worth: the share of its relations that were right when
    it was measured. Turns of more than `max_characters` are not given to it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str = Field(default="model.gguf", pattern=r"^[^/\\]+$")
    base_url: str = "http://127.0.0.1:8080/v1"
    model: str = "default"
    context_tokens: int = Field(default=8192, ge=512)
    max_tokens: int = Field(default=512, ge=16)
    max_characters: int = Field(default=2000, ge=1)
    trust: float = Field(default=0.7, ge=0, le=1)
    role_type: str | None = "PERSON"
    time_type: str | None = "DATE"
    examples: tuple[Message, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> GeneratorConfig:
        """The configuration in a version's folder. Raises: ModelLoadError."""
        try:
            return cls.model_validate_json((folder / CONFIG).read_bytes())
        except (OSError, ValidationError) as error:
            raise ModelLoadError(f"{CONFIG}: {error}") from error


def open_generator(version: ModelVersion, config: GeneratorConfig, settings: SlmSettings) -> Generator:
    """The version's language model, opened; nothing of the other runtimes is imported. Raises: ModelLoadError."""
    try:
        match version.manifest.runtime:
            case "mlx":
                from actors.runtimes.mlx import MlxGenerator

                return MlxGenerator(version.path)
            case "gguf":
                from actors.runtimes.gguf import GgufGenerator

                return GgufGenerator(version.path / config.weights, config.context_tokens, settings.threads)
            case "openai":
                from actors.runtimes.openai import OpenAIGenerator

                return OpenAIGenerator(config.base_url, config.model, settings.server)
    except ImportError as error:
        raise ModelLoadError(
            f"{version}: {error}; `pip install 'shoal[{version.manifest.runtime}]'` brings what runs it"
        ) from error
    raise ModelLoadError(f"{version}: no generator runs on {version.manifest.runtime!r}; mlx, gguf and openai do")
