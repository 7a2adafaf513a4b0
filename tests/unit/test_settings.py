import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from config.settings import LoadedSettings, Settings, SettingsError, flatten, load_settings


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set but what a test sets."""
    for variable in [name for name in os.environ if name.startswith("SHOAL_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home" / "data"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LoadedSettings]:
    def load_with(toml: str | None = None, overrides: dict[str, Any] | None = None, **environment: str):
        file = None
        if toml is not None:
            file = tmp_path / "shoal.toml"
            file.write_text(toml, encoding="utf-8")
        with monkeypatch.context() as patched:
            for variable, value in environment.items():
                patched.setenv(variable, value)
            return load_settings(file, overrides)

    return load_with


@pytest.fixture
def fault(load: Callable[..., LoadedSettings]) -> Callable[..., str]:
    def only_fault(*args: Any, **environment: str) -> str:
        with pytest.raises(SettingsError) as caught:
            load(*args, **environment)
        assert caught.value.code == "invalid_settings"
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return only_fault


def test_each_layer_overrides_the_one_before_key_by_key(load, tmp_path):
    toml = '[graph]\nuri = "bolt://file"\nusername = "file"\n[log]\nlevel = "error"\n'
    loaded = load(
        toml,
        {"graph": {"uri": "bolt://line"}},
        SHOAL_GRAPH__URI="bolt://environment",
        SHOAL_LOG__LEVEL="warning",
    )
    assert (loaded.settings.graph.uri, loaded.origins["graph.uri"]) == ("bolt://line", "command line")
    assert (loaded.settings.log.level, loaded.origins["log.level"]) == ("warning", "environment")
    assert loaded.settings.graph.username == "file"
    assert loaded.origins["graph.username"] == str(tmp_path / "shoal.toml")
    assert (loaded.settings.log.format, loaded.origins["log.format"]) == ("console", "default")


def test_every_effective_key_is_one_that_a_person_can_name(load):
    settings = load().settings
    assert {key.split(".")[0] for key, _ in flatten(settings.model_dump())} == {*Settings.model_fields}
    origins = load().origins
    assert {*origins.values()} == {"default"}
    assert origins.keys() <= dict(flatten(settings.model_dump())).keys()


def test_settings_are_frozen_and_travel_to_other_processes(load):
    settings = load().settings
    with pytest.raises(ValidationError, match="frozen"):
        settings.user = "eve"
    with pytest.raises(ValidationError, match="frozen"):
        settings.slm["encoder"].replicas = 9
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - our own bytes


def test_the_file_of_the_platform_is_read_when_it_is_there(load, tmp_path):
    folder = tmp_path / "home" / "config" / "shoal"
    folder.mkdir(parents=True)
    assert load().settings.user == "me"
    (folder / "shoal.toml").write_text('user = "ana"')
    assert load().settings.user == "ana"
    (tmp_path / "own.toml").write_text('user = "ben"')
    assert load(SHOAL_CONFIG=str(tmp_path / "own.toml")).settings.user == "ben"


def test_a_named_file_that_is_missing_or_no_toml_is_an_error(fault, tmp_path):
    assert "absent.toml" in fault(SHOAL_CONFIG=str(tmp_path / "absent.toml"))
    assert "shoal.toml" in fault("user = ", SHOAL_CONFIG="")
    with pytest.raises(SettingsError, match=r"absent\.toml"):
        load_settings(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b'user = "\xe9"')
    with pytest.raises(SettingsError, match=r"latin\.toml"):
        load_settings(tmp_path / "latin.toml")


def test_folders_are_the_platforms_own(load, tmp_path):
    settings = load().settings
    assert settings.home == tmp_path / "home" / "data" / "shoal"
    assert settings.runtime_dir == settings.home / "run"
    assert settings.server_uri == f"unix://{settings.home}/run/shoal.sock"
    assert settings.registry_root == settings.home / "registry"
    assert load(XDG_RUNTIME_DIR="/run/user/7").settings.runtime_dir == Path("/run/user/7/shoal")


def test_a_tilde_means_home_in_every_folder_that_follows(load, tmp_path):
    settings = load('home = "~/shoal"').settings
    assert settings.home == tmp_path / "home" / "shoal"
    assert settings.runtime_dir == tmp_path / "home" / "shoal" / "run"


def test_an_environment_variable_can_set_a_key_a_list_or_a_block(load):
    settings = load(
        SHOAL_METRICS='{"port": 1, "enabled": false}',
        SHOAL_METRICS__PORT="2",
        SHOAL_SLM__EXTRACTOR__REPLICAS="3",
        SHOAL_SLM__EXTRACTOR__AFTER='["encoder"]',
        SHOAL_TEST_NEO4J_URI="ignored",
    ).settings
    assert (settings.metrics.port, settings.metrics.enabled) == (2, False)
    assert (settings.slm["extractor"].replicas, settings.slm["extractor"].after) == (3, ("encoder",))
    assert settings.slm["extractor"].implementation == "actors.extractor:Extractor"


def test_a_small_model_is_added_by_one_block(load):
    toml = '[slm.mood]\nimplementation = "actors.mood:Mood"\nmodel = "mood"\nevents = ["text"]\nafter = ["encoder"]\n'
    slms = load(toml).settings.slm
    assert [*slms] == ["encoder", "extractor", "classifier", "mood"]
    assert slms["mood"].deadline_s > 0


UNKNOWN = [
    ("colour = 1", "colour = 1", "home, runtime_dir"),
    ("_env_file = 'x'", "_env_file = 'x'", "home, runtime_dir"),
    ("[log]\ncolour = 'red'", "log.colour = 'red'", "level, format"),
    ("[graph.embedded]\nheap = 1", "graph.embedded.heap = 1", "heap_mb, start_timeout_s"),
    ("[slm.encoder]\nreplica = 2", "slm.encoder.replica = 2", "implementation, model"),
    ("[unknown.block]\nkey = 1", "unknown = {…}", "home, runtime_dir"),
]


@pytest.mark.parametrize(("toml", "named", "known"), UNKNOWN)
def test_an_unknown_key_is_named_with_its_value_its_origin_and_what_is_known(fault, tmp_path, toml, named, known):
    line = fault(toml)
    assert line.startswith(f"{named}: no such setting; known are ")
    assert known in line
    assert line.endswith(f"({tmp_path / 'shoal.toml'})")


BAD = [
    ("[log]\nlevel = 'loud'", "log.level = 'loud'", "'debug', 'info', 'warning' or 'error'"),
    ("log = 3", "log = 3", "dictionary"),
    ("user = ''", "user = ''", "at least 1 character"),
    ("home = 'data'", "home = 'data'", "absolute path"),
    ("home = 3", "home = 3", "path"),
    ("[server]\nuri = 'tcp://127.0.0.1:70000'", "server.uri", "loopback"),
    ("[server]\nuri = 'tcp://0.0.0.0:1'", "server.uri = 'tcp://0.0.0.0:1'", "loopback"),
    ("[server]\nuri = 'tcp://127.0.0.1:80.evil.example'", "server.uri", "loopback"),
    ("[server]\nuri = 'unix://relative'", "server.uri", "unix:///absolute/path"),
    ("[turn]\ndeadline_s = 0", "turn.deadline_s = 0", "greater than 0"),
    ("[turn]\ndeadline_s = inf", "turn.deadline_s = inf", "finite"),
    ("[turn]\ndeadline_s = nan", "turn.deadline_s = nan", "finite"),
    ("[turn]\ncontext_turns = 99", "turn.context_turns = 99", "less than or equal to 16"),
    ("[ray]\nnum_cpus = 1.5", "ray.num_cpus = 1.5", "integer"),
    ("[graph]\nuri = 'http://x'", "graph.uri = 'http://x'", "bolt://HOST:PORT"),
    ("[graph.user_graph]\nuri = 'bolt://a b'", "graph.user_graph.uri = 'bolt://a b'", "bolt://HOST:PORT"),
    ("[metrics]\nhost = '0.0.0.0'", "metrics.host = '0.0.0.0'", "127.0.0.1"),
    ("[metrics]\nport = 65536", "metrics.port = 65536", "65535"),
    ("[sync]\nretry_min_s = 9.0\nretry_max_s = 1.0", "sync.retry_max_s = 1.0", "retry_min_s or more"),
    ("[slm.extractor]\ndeadline_s = 60", "slm.extractor.hang_timeout_s = 30.0", "more than deadline_s, which is 60.0"),
    ("[slm.extractor]\nhang_timeout_s = 0.5", "slm.extractor.hang_timeout_s = 0.5", "more than deadline_s"),
    (
        "[slm.extractor]\nevents = ['smell']",
        "slm.extractor.events.0 = 'smell'",
        "'text', 'partial', 'audio' or 'answer'",
    ),
    ("[slm.extractor]\nimplementation = 'x'", "slm.extractor.implementation = 'x'", "pattern"),
    ("[slm.extractor]\nafter = ['nobody']", "slm = {…}", "extractor.after names 'nobody'; known are encoder"),
    ("[slm.encoder]\nafter = ['classifier']", "slm = {…}", "run after the next: "),
    ("[slm.encoder]\nafter = ['encoder']", "slm = {…}", "run after the next: encoder, encoder"),
]


@pytest.mark.parametrize(("toml", "named", "allowed"), BAD)
def test_a_bad_value_is_one_line_with_key_value_origin_and_what_is_allowed(fault, tmp_path, toml, named, allowed):
    line = fault(toml)
    assert line.startswith(named)
    assert allowed in line
    assert line.endswith(f"({tmp_path / 'shoal.toml'})")


def test_every_fault_has_its_line(load):
    with pytest.raises(SettingsError) as caught:
        load("[slm.mood]\nenabled = true\n", SHOAL_LOG__LEVEL="loud")
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0].split(" ")[0] for line in lines] == [
        "log.level",
        "slm.mood.implementation",
        "slm.mood.model",
        "slm.mood.events",
    ]
    assert lines[0].endswith("(environment)")
    assert all(line.endswith("shoal.toml)") for line in lines[1:])


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("SHOAL_COLOUR", "red", "known are home, runtime_dir"),
        ("SHOAL_LOG", "debug", "JSON"),
        ("SHOAL_SLM__EXTRACTOR__AFTER", "encoder", "JSON"),
    ],
)
def test_a_bad_variable_is_named(fault, variable, value, allowed):
    line = fault(**{variable: value})
    assert line.startswith(f"{variable} = {value!r}: ")
    assert allowed in line


def test_a_password_is_never_shown(load, fault):
    assert "1234" not in fault("[graph]\npassword = 1234")
    assert "hush" not in fault(SHOAL_GRAPHS__PASSWORD="hush")
    for malformed in ('{"password": "hush"', "password=hush", ' {"pass": "hush"'):
        assert fault(SHOAL_GRAPH=malformed).startswith("SHOAL_GRAPH = ***: allowed is JSON here")
        assert "hush" not in fault(f"graph = '{malformed}'")
        assert "hush" not in fault(SHOAL_GRAPHS=malformed)
    settings = load(SHOAL_GRAPH__PASSWORD="hush").settings
    assert settings.graph.password.get_secret_value() == "hush"
    assert "hush" not in repr(settings)
    assert "hush" not in settings.model_dump_json()


def test_the_layers_given_are_left_as_they_were(load):
    overrides = {"graph": {"embedded": {"heap_mb": 300}}}
    assert load(None, overrides).settings.graph.embedded.heap_mb == 300
    assert overrides == {"graph": {"embedded": {"heap_mb": 300}}}
    assert load().settings.graph.embedded.heap_mb == 256
