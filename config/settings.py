"""The settings tree: the only reader of the environment and of settings files."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as EnvironmentSettingsError

DEFAULTS = Path(__file__).parent / "defaults.toml"
SCHEMA = Path(__file__).parent / "schema.yaml"

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class SettingsError(Exception):
    """A setting that Shoal cannot use; its text is one line per fault, fit for a person."""


class Block(BaseModel):
    """A frozen group of settings that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LogSettings(Block):
    """What is logged, and as text for a person or one JSON object per line."""

    level: Literal["debug", "info", "warning", "error"]
    format: Literal["console", "json"]


class ServerSettings(Block):
    """The socket: where it listens, and the bounds that keep one client from harming the rest."""

    uri: str
    max_header_bytes: Count
    max_data_bytes: Count
    max_payload_bytes: Count
    max_text_bytes: Count
    max_connections: Count
    body_timeout_s: Seconds
    idle_timeout_s: Seconds
    drain_timeout_s: Seconds

    @field_validator("uri")
    @classmethod
    def _local_only(cls, value: str) -> str:
        if value and not value.startswith(("unix:///", "tcp://127.0.0.1:", "tcp://localhost:", "tcp://[::1]:")):
            raise ValueError("unix:///absolute/path or tcp:// on a loopback address")
        return value


class TurnSettings(Block):
    """How long a turn may take, what it sees of earlier ones, and when a session ends."""

    deadline_s: Seconds
    context_turns: Annotated[int, Field(ge=0, le=16)]
    session_idle_s: Seconds


class RaySettings(Block):
    """The Ray that hosts the small models: a private one, or a cluster to join."""

    address: str
    namespace: str
    num_cpus: Count
    object_store_mb: Annotated[int, Field(ge=80)]
    dashboard: bool
    start_timeout_s: Seconds


class SlmSettings(Block):
    """One small model: which class, which registry entry, when it runs and with how much."""

    implementation: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    model: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
    events: tuple[Literal["text", "audio", "answer"], ...]
    after: tuple[str, ...] = ()
    enabled: bool = True
    deadline_s: Seconds = 0.5
    load_timeout_s: Seconds = 60.0
    replicas: Count = 1
    threads: Count = 1
    max_batch: Count = 8
    max_queued: Count = 256
    num_cpus: Annotated[float, Field(ge=0)] = 0.1
    memory_mb: Count = 512
    max_restarts: Annotated[int, Field(ge=-1)] = -1


class JournalSettings(Block):
    """The durable queue: how far it may run ahead of the graphs, and how writes are grouped."""

    max_unsynced: Count
    admission_timeout_s: Seconds
    group_commit_ms: Annotated[float, Field(ge=0)]


class SyncSettings(Block):
    """How turns travel from the journal to the graphs, and when a refused write is set aside."""

    batch_turns: Count
    retry_min_s: Seconds
    retry_max_s: Seconds
    attempts: Count


class GraphTarget(Block):
    """One graph's server and database; empty values fall back to the shared ones."""

    uri: str
    database: str


class EmbeddedSettings(Block):
    """The embedded graph server, used where no `graph.uri` is set."""

    heap_mb: Annotated[int, Field(ge=128)]
    start_timeout_s: Seconds


class GraphSettings(Block):
    """The databases that hold the user graph and the agent graph."""

    uri: str
    username: str
    password: SecretStr
    connect_timeout_s: Seconds
    query_timeout_s: Seconds
    user_graph: GraphTarget
    agent_graph: GraphTarget
    embedded: EmbeddedSettings


class MetricsSettings(Block):
    """The Prometheus endpoint; it never leaves the loopback interface."""

    enabled: bool
    host: Literal["127.0.0.1", "localhost", "::1"]
    port: Annotated[int, Field(ge=0, le=65535)]


def _folder(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str) and value else value


class Settings(BaseSettings):
    """All of Shoal's settings, frozen. Build with `load_settings`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="SHOAL_", env_nested_delimiter="__")

    home: Annotated[Path, BeforeValidator(_folder)]
    runtime_dir: Annotated[Path, BeforeValidator(_folder)]
    runtime: Literal["ray", "local"]
    user: Annotated[str, Field(min_length=1, max_length=128)]
    log: LogSettings
    server: ServerSettings
    turn: TurnSettings
    ray: RaySettings
    slm: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], SlmSettings]
    journal: JournalSettings
    sync: SyncSettings
    graph: GraphSettings
    metrics: MetricsSettings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - named by pydantic-settings
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - named by pydantic-settings
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - named by pydantic-settings
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - named by pydantic-settings
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load_settings` merged: it keeps where each value came from."""
        return (init_settings,)

    @field_validator("slm")
    @classmethod
    def _known_predecessors(cls, slms: dict[str, SlmSettings]) -> dict[str, SlmSettings]:
        for name, slm in slms.items():
            for before in slm.after:
                if before not in slms:
                    raise ValueError(f"slm.{name}.after names {before!r}; known are {', '.join(slms)}")
        return slms

    @property
    def server_uri(self) -> str:
        """Where the daemon listens: `server.uri`, else a Unix socket in the runtime folder."""
        return self.server.uri or f"unix://{self.runtime_dir / 'shoal.sock'}"

    @property
    def journal_path(self) -> Path:
        return self.home / "journal.sqlite"

    @property
    def registry_root(self) -> Path:
        return self.home / "registry"

    @property
    def embedded_root(self) -> Path:
        return self.home / "graph"


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The settings, and for every dotted key the layer that set it."""

    settings: Settings
    origins: Mapping[str, str]


def user_file() -> Path:
    """Where a person keeps settings: `SHOAL_CONFIG`, else `shoal.toml` in the platform's folder."""
    named = os.environ.get("SHOAL_CONFIG")
    return Path(named) if named else platformdirs.user_config_path("shoal", appauthor=False) / "shoal.toml"


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as nested dictionaries.

    Raises:
        SettingsError: the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error


def load_settings(file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> LoadedSettings:
    """Merge defaults < user file < environment < `overrides` (nested, from the command line).

    Raises:
        SettingsError: an unknown key or a bad value; one line each names key, value, what is allowed and its origin.
    """
    chosen = file or user_file()
    layers: list[tuple[str, Mapping[str, Any]]] = [("default", read_toml(DEFAULTS))]
    if file or chosen.exists():
        layers.append((str(chosen), read_toml(chosen)))
    layers.append(("environment", _environment()))
    layers.append(("command line", overrides or {}))

    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        _merge(merged, layer)
        origins.update({key: origin for key, _ in flatten(layer)})
    if not merged["home"]:
        merged["home"] = platformdirs.user_data_path("shoal", appauthor=False)
    if not merged["runtime_dir"]:
        # Without a session's runtime folder a shared /tmp would be the fallback: the data folder is private.
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        merged["runtime_dir"] = Path(runtime, "shoal") if runtime else Path(merged["home"], "run")
    try:
        return LoadedSettings(Settings(**merged), origins)
    except ValidationError as error:
        raise SettingsError("\n".join(_faults(error, origins))) from None


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a nested mapping with its dotted key."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _environment() -> dict[str, Any]:
    """What `SHOAL_` variables set; `SHOAL_CONFIG` and `SHOAL_TEST_…` are not settings."""
    for variable in os.environ:
        name = variable.removeprefix("SHOAL_").lower()
        if not variable.startswith("SHOAL_") or name == "config" or name.startswith("test_"):
            continue
        if name.split("__")[0] not in Settings.model_fields:
            raise SettingsError(
                f"{variable}: no such setting; known are {', '.join(Settings.model_fields)} (parts joined by __)"
            )
    try:
        return EnvSettingsSource(Settings)()
    except EnvironmentSettingsError as error:
        raise SettingsError(f"environment: {error}") from error


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _faults(error: ValidationError, origins: Mapping[str, str]) -> Iterator[str]:
    for fault in error.errors(include_url=False):
        key = ".".join(str(part) for part in fault["loc"])
        origin = origins.get(key, "")
        where = f" ({origin})" if origin else ""
        if fault["type"] == "extra_forbidden":
            yield f"{key}: no such setting{where}"
        else:
            shown = "" if isinstance(fault["input"], Mapping) else f" = {fault['input']!r}"
            yield f"{key}{shown}: {fault['msg'][0].lower()}{fault['msg'][1:]}{where}"
