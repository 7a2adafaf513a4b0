"""The settings tree: the only reader of the environment and of settings files."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as EnvironmentSettingsError

DEFAULTS = Path(__file__).parent / "defaults.toml"
SCHEMA = Path(__file__).parent / "schema.yaml"

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]

LOCAL_URI = re.compile(r"unix:///.+|tcp://(127\.0\.0\.1|localhost|\[::1\]):(?P<port>\d{1,5})")
HIGHEST_PORT = 65535
BOLT_URI = re.compile(r"(bolt|neo4j)(\+s|\+ssc)?://[^\s/?#]+/?")


def _bolt_uri(value: str) -> str:
    if value and not BOLT_URI.fullmatch(value):
        raise ValueError("allowed are bolt://HOST:PORT and neo4j://HOST:PORT, with +s or +ssc for TLS, or nothing")
    return value


BoltUri = Annotated[str, AfterValidator(_bolt_uri)]


class SettingsError(Exception):
    """A setting that Shoal cannot use; its text is one line per fault, fit for a person."""

    code = "invalid_settings"


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
        found = LOCAL_URI.fullmatch(value)
        if value and (found is None or int(found["port"] or 0) > HIGHEST_PORT):
            raise ValueError("allowed are unix:///absolute/path and tcp:// with a loopback address and a port")
        return value


class TurnSettings(Block):
    """How long a turn may take, what it sees of earlier ones, and when a session ends."""

    deadline_s: Seconds
    context_turns: Annotated[int, Field(ge=0, le=16)]
    session_idle_s: Seconds
    remembered_names: Annotated[int, Field(ge=0, le=16)]
    remembered_s: Seconds


class RaySettings(Block):
    """The Ray that hosts the small models: a private one, or a cluster to join."""

    address: str
    namespace: str
    num_cpus: Count
    object_store_mb: Annotated[int, Field(ge=80)]
    dashboard: bool
    start_timeout_s: Seconds


ClassPath = Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]


class ModelServerSettings(Block):
    """Where a version that runs on a model server finds it, and which hosts but this one it may ask."""

    base_url: str = ""
    allowed_hosts: tuple[str, ...] = ()
    api_key: SecretStr = SecretStr("")


class SlmSettings(Block):
    """One small model: which class, which registry entry, when it runs and with how much.

    `implementations` names other classes for versions by their manifest's `runtime`.
    """

    implementation: ClassPath
    model: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
    events: tuple[Literal["text", "partial", "audio", "answer"], ...]
    after: tuple[str, ...] = ()
    enabled: bool = True
    deadline_s: Seconds = 0.5
    load_timeout_s: Seconds = 60.0
    hang_timeout_s: Annotated[Seconds, Field(validate_default=True)] = 30.0
    replicas: Count = 1
    threads: Count = 1
    max_batch: Count = 8
    max_queued: Count = 256
    num_cpus: Annotated[float, Field(ge=0)] = 0.1
    memory_mb: Count = 512
    implementations: Mapping[str, ClassPath] = {}
    server: ModelServerSettings = ModelServerSettings()
    max_restarts: Annotated[int, Field(ge=-1)] = -1

    @field_validator("hang_timeout_s")
    @classmethod
    def _longer_than_the_work(cls, value: float, info: ValidationInfo) -> float:
        deadline_s = info.data.get("deadline_s")
        if deadline_s is not None and value <= deadline_s:
            raise ValueError(
                f"allowed is more than deadline_s, which is {deadline_s}: a host at work is no host that hangs"
            )
        return value


class JournalSettings(Block):
    """The durable queue: how far it may run ahead of the graphs, and how writes are grouped."""

    max_unsynced: Count
    admission_timeout_s: Seconds
    group_commit_ms: Annotated[float, Field(ge=0)]


class SyncSettings(Block):
    """How turns travel from the journal to the graphs, and when a refused write is set aside."""

    batch_turns: Count
    gather_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.05
    retry_min_s: Seconds
    retry_max_s: Seconds
    attempts: Count

    @field_validator("retry_max_s")
    @classmethod
    def _not_below_the_first(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("retry_min_s", value):
            raise ValueError("allowed is retry_min_s or more")
        return value


class MemorySettings(Block):
    """How what is said becomes what is known; see `daemon.memory.facts.Known`."""

    doubt_margin: Annotated[float, Field(ge=0, le=1)]


class GraphTarget(Block):
    """One graph's server and database; empty values fall back to the shared ones."""

    uri: BoltUri
    database: str


class EmbeddedSettings(Block):
    """The embedded graph server, used where no `graph.uri` is set."""

    heap_mb: Annotated[int, Field(ge=128)]
    start_timeout_s: Seconds


class GraphSettings(Block):
    """The databases that hold the user graph and the agent graph."""

    uri: BoltUri
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
    """A relative folder would be another one for each program that is started elsewhere."""
    if not isinstance(value, (str, Path)):
        return value
    folder = Path(value).expanduser()
    if not folder.is_absolute():
        raise ValueError("allowed is an absolute path; ~ stands for your home")
    return folder


Folder = Annotated[Path, BeforeValidator(_folder)]


class Settings(BaseSettings):
    """All of Shoal's settings, frozen. Build with `load_settings`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="SHOAL_", env_nested_delimiter="__")

    home: Folder
    runtime_dir: Folder
    runtime: Literal["ray", "local"]
    user: Annotated[str, Field(min_length=1, max_length=128)]
    log: LogSettings
    server: ServerSettings
    turn: TurnSettings
    ray: RaySettings
    slm: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], SlmSettings]
    journal: JournalSettings
    sync: SyncSettings
    memory: MemorySettings
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

    @field_validator("home", mode="before")
    @classmethod
    def _platforms_home(cls, value: object) -> object:
        return platformdirs.user_data_path("shoal", appauthor=False) if value == "" else value

    @field_validator("runtime_dir", mode="before")
    @classmethod
    def _sessions_runtime_dir(cls, value: object, info: ValidationInfo) -> object:
        if value != "":
            return value
        # Without a session's runtime folder a shared /tmp would be the fallback: the data folder is private.
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        return Path(runtime, "shoal") if runtime else info.data.get("home", Path("/")) / "run"

    @field_validator("slm")
    @classmethod
    def _known_predecessors(cls, slms: dict[str, SlmSettings]) -> dict[str, SlmSettings]:
        for name, slm in slms.items():
            for before in slm.after:
                if before not in slms:
                    raise ValueError(f"{name}.after names {before!r}; known are {', '.join(slms)}")
        try:
            TopologicalSorter({name: slm.after for name, slm in slms.items()}).prepare()
        except CycleError as error:
            raise ValueError(f"each of these is to run after the next: {', '.join(error.args[1])}") from None
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
    """Where a person keeps settings when no file is named: `shoal.toml` in the platform's folder."""
    return platformdirs.user_config_path("shoal", appauthor=False) / "shoal.toml"


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as nested dictionaries.

    Raises:
        SettingsError: the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error


def parse_overrides(items: Iterable[str]) -> dict[str, Any]:
    """`graph.uri=bolt://…` as a nested mapping; pydantic turns text into the setting's type, a list is JSON.

    Raises:
        SettingsError: an item is no KEY=VALUE, or a key is a value and a group of others at once.
    """
    tree: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals:
            raise SettingsError(f"--set {item}: KEY=VALUE is wanted")
        *parents, leaf = key.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
            if not isinstance(branch, dict):
                raise SettingsError(f"--set {item}: {parent} has a value already")
        branch[leaf] = _list_or_text(item, value)
    return tree


def _list_or_text(item: str, value: str) -> Any:
    if not value.startswith("["):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise SettingsError(f'--set {item}: a list is written as ["a", "b"] ({error})') from None


def load_settings(file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> LoadedSettings:
    """Merge defaults < user file < environment < `overrides` (nested, from the command line).

    Raises:
        SettingsError: an unknown key or a bad value; one line each names key, value, what is allowed and its origin.
    """
    named = file or (Path(os.environ["SHOAL_CONFIG"]).expanduser() if os.environ.get("SHOAL_CONFIG") else None)
    chosen = named or user_file()
    layers: list[tuple[str, Mapping[str, Any]]] = [("default", read_toml(DEFAULTS))]
    if named or chosen.exists():
        layers.append((str(chosen), read_toml(chosen)))
    layers.append(("environment", _environment()))
    layers.append(("command line", overrides or {}))

    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        _merge(merged, layer)
        origins.update({key: origin for key, _ in flatten(layer)})
    # BaseSettings would take a key with an underscore in front for an option of its own.
    private = [key for key in merged if key.startswith("_")]
    try:
        if private:
            raise SettingsError("\n".join(_unknown((key,), merged[key], origins) for key in private))
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
    tree: dict[str, Any] = {}
    source = EnvSettingsSource(Settings)
    for variable, value in sorted(os.environ.items()):  # sorted: a block's JSON comes before one key of it
        name = variable.removeprefix("SHOAL_").lower()
        if not variable.startswith("SHOAL_") or name == "config" or name.startswith("test_"):
            continue
        if name.split("__")[0] not in Settings.model_fields:
            raise SettingsError(
                f"{variable} = {_shown(name, value)}: no such setting; known are {', '.join(Settings.model_fields)}, "
                "their parts joined by __"
            )
        source.env_vars = {variable.lower(): value}
        try:
            _merge(tree, source())
        except EnvironmentSettingsError:
            raise SettingsError(
                f'{variable} = {_shown(name, value)}: allowed is JSON here, such as ["a", "b"] or {{"key": 1}}'
            ) from None
    return tree


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping):
            if not isinstance(into.get(key), dict):
                into[key] = {}
            _merge(into[key], value)
        else:
            into[key] = value


def _faults(error: ValidationError, origins: Mapping[str, str]) -> Iterator[str]:
    for fault in error.errors(include_url=False):
        if fault["type"] == "extra_forbidden":
            yield _unknown(fault["loc"], fault["input"], origins)
            continue
        key = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        shown = "" if fault["type"] == "missing" else f" = {_shown(key, fault['input'])}"
        yield f"{key}{shown}: {message[0].lower()}{message[1:]}{_where(key, origins)}"


def _unknown(location: tuple[int | str, ...], value: object, origins: Mapping[str, str]) -> str:
    key = ".".join(str(part) for part in location)
    return (
        f"{key} = {_shown(key, value)}: no such setting; known are {', '.join(_known(location))}{_where(key, origins)}"
    )


def _known(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the block of this location has."""
    block: type[BaseModel] = Settings
    for part in location[:-1]:
        if block is Settings and part == "slm":
            block = SlmSettings
        elif part in block.model_fields:
            annotation = block.model_fields[str(part)].annotation
            block = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else block
    return list(block.model_fields)


def _shown(key: str, value: object) -> str:
    # A block that stands in one string may hold a password, too.
    about = f"{key} {value}".lower() if isinstance(value, str) else key.lower()
    if "password" in about or "api_key" in about or (isinstance(value, str) and value.lstrip().startswith("{")):
        return "***"
    return "{…}" if isinstance(value, Mapping) else repr(value)


def _where(key: str, origins: Mapping[str, str]) -> str:
    """The layer that set the key, else something below it, else something beside it."""
    while key:
        found = [origin for known, origin in origins.items() if f"{known}.".startswith(f"{key}.")]
        if found:
            return f" ({next((origin for origin in found if origin != 'default'), 'default')})"
        key = key.rpartition(".")[0]
    return ""
