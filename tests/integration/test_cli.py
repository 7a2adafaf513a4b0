"""The command `shoal`, run as a person or a script runs it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest

from config.schema import load_schema
from daemon.ownership import sole_owner
from daemon.protocol import Ingested, Recalled, Status, ingested_schema
from tests.integration.conversation import say
from tests.integration.daemon_process import daemon

SHOAL = str(Path(sys.executable).with_name("shoal"))
FAILED, USAGE, UNREACHABLE, BAD_SETTINGS = 1, 2, 3, 4
LIFE_TIMEOUT_S = 120


@dataclass(frozen=True)
class Told:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """Runs `shoal` with settings of its own in the environment."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        places = {"SHOAL_HOME": str(folder / "home"), "SHOAL_RUNTIME_DIR": str(folder / "run")}
        self.environment = os.environ | places | {"SHOAL_METRICS__PORT": "0", "SHOAL_RUNTIME": "local"} | settings

    def __call__(self, *arguments: str, typed: str | bytes = "") -> Told:
        done = subprocess.run(
            [SHOAL, *arguments],
            input=typed if isinstance(typed, bytes) else typed.encode(),
            capture_output=True,
            env=self.environment,
            cwd=self.folder,
            timeout=LIFE_TIMEOUT_S,
            check=False,
        )
        told = Told(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in told.err
        return told

    def ok(self, *arguments: str, typed: str = "") -> Told:
        told = self(*arguments, typed=typed)
        assert told.code == 0, told
        return told


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    """A shell beside a daemon that `start --detach` started and `stop` stops."""
    with tempfile.TemporaryDirectory(prefix="shoal-") as name:
        shell = Shell(Path(name))
        started = shell.ok("start", "--detach")
        assert started.out.startswith(f"shoal ready: unix://{name}/run/shoal.sock in ")
        pid = Status.model_validate(shell.ok("status", "--json").json).pid
        yield shell
        assert shell.ok("stop").out == "stopped\n"
        assert not psutil.pid_exists(pid)
        gone = shell("status")
        assert gone.code == UNREACHABLE
        assert "shoal start" in gone.err


@pytest.fixture
def idle(folder: Path) -> Shell:
    """A shell without a daemon."""
    return Shell(folder)


# --- a daemon's life --------------------------------------------------------------------------------


def test_status_tells_health_and_versions(shell: Shell) -> None:
    report = Status.model_validate(shell.ok("status", "--json").json)
    assert (report.state, report.runtime, report.dead_letters) == ("ready", "local", 0)
    assert {actor["slm"]: actor["state"] for actor in report.actors} == dict.fromkeys(report.models, "serving")
    assert set(report.models) == {"encoder", "extractor", "classifier"}
    assert report.graphs.keys() == {"user", "agent"}
    shown = shell.ok("status").out
    assert all(version in shown for version in report.models.values())


def test_what_is_private_stays_private(shell: Shell) -> None:
    modes = {path: path.stat().st_mode & 0o777 for path in (shell.folder / "home").iterdir()}
    modes |= {path: path.stat().st_mode & 0o777 for path in (shell.folder, shell.folder / "run")}
    assert {oct(mode) for path, mode in modes.items() if path.is_dir()} == {oct(0o700)}
    assert {oct(mode) for path, mode in modes.items() if path.is_file()} == {oct(0o600)}
    assert (shell.folder / "run" / "shoal.sock").stat().st_mode & 0o777 == 0o600


def test_a_second_start_says_who_is_there(shell: Shell) -> None:
    pid = Status.model_validate(shell.ok("status", "--json").json).pid
    for arguments in (["start"], ["start", "--detach"]):
        told = shell(*arguments)
        assert told.code == FAILED
        assert "[home_in_use]" in told.err
        assert f"pid {pid}" in told.err


def test_without_a_daemon_every_command_says_what_to_do(idle: Shell) -> None:
    for arguments in (["say", "hello"], ["facts", "--json"], ["stop"], ["forget", "everything", "--yes"]):
        told = idle(*arguments)
        assert told.code == UNREACHABLE
        assert told.out == ""
        assert "`shoal start`" in told.err


async def test_the_first_signal_drains_and_a_second_one_forces(folder: Path) -> None:
    """Its graph is away, so the drain would take as long as it may; what was accepted waits for the next start."""
    away = {"runtime": "local", "graph__uri": "bolt://127.0.0.1:1"}
    async with daemon(folder, **away, server__drain_timeout_s=600) as running:
        async with running.client() as client:
            await say(client, "My sister Emma lives in Lisbon.")
        running.process.send_signal(signal.SIGTERM)
        await running.says("shoal stopping")
        assert running.process.returncode is None
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 128 + signal.SIGTERM
        assert "shoal stopped" not in running.told
    async with daemon(folder, **away, server__drain_timeout_s=0.1) as again:
        assert "shoal journal: 1 turns wait for the graphs from before" in again.told


def test_a_start_that_fails_leaves_nothing_running(idle: Shell) -> None:
    told = idle("--set", "slm.classifier.implementation=actors.classifier:Nothing", "start", "--detach")
    assert told.code == FAILED
    assert "Nothing" in told.err
    left = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if str(idle.folder) in str(p.info["cmdline"])]
    assert left == []


# --- conversation and memory ------------------------------------------------------------------------


def test_say_shows_what_was_understood_and_the_receipt(shell: Shell) -> None:
    said = shell.ok("say", "My sister Emma lives in Lisbon.", "--user", "say", "--wait", "--json")
    reply = Ingested.model_validate(said.json)
    assert reply.stored == {"user": True, "agent": True}
    shown = shell.ok("say", "My sister Emma lives in Lisbon.", "--user", "say").out
    assert f"receipt {reply.seq + 1} " in shown
    assert "lives_in" in shown
    assert sorted(shell.ok("stored", str(reply.seq)).out.strip().split(", ")) == ["agent: stored", "user: stored"]
    unknown = shell("stored", "999999")
    assert unknown.code == FAILED
    assert "[unknown_entry]" in unknown.err


def test_say_reads_lines_and_tells_each(shell: Shell) -> None:
    lines = "My sister Emma lives in Lisbon.\n\nShe moved to Porto last week.\n"
    told = shell.ok("say", "-", "--user", "lines", "--session", "piped", "--json", typed=lines)
    replies = [Ingested.model_validate_json(line) for line in told.out.splitlines()]
    assert [reply.session for reply in replies] == ["piped", "piped"]
    assert replies[0].seq < replies[1].seq


def test_say_that_is_refused_fails_with_the_code(shell: Shell) -> None:
    assert "[empty_text]" in shell("say", " ").err
    broken = shell("say", "-", typed=b"fine\n\xff\xfe\nnever sent\n")
    assert broken.code == FAILED
    assert "[not_utf8]" in broken.err
    assert "receipt" in broken.out, "the line before it was taken"


def test_facts_are_shown_for_a_person_and_a_script(shell: Shell) -> None:
    shell.ok("say", "My sister Emma lives in Lisbon.", "--user", "facts", "--wait")
    shell.ok("say", "Emma moved to Porto last week.", "--user", "facts", "--wait")
    recalled = Recalled.model_validate(shell.ok("facts", "--user", "facts", "--json").json)
    homes = {fact["object"]: fact["status"] for fact in recalled.facts if fact["predicate"] == "lives_in"}
    assert homes == {"Lisbon": "superseded", "Porto": "asserted"}
    shown = shell.ok("facts", "Emma", "--user", "facts").out
    assert "superseded" in shown
    assert "My sister Emma lives in Lisbon." in shown
    current = shell.ok("facts", "Emma", "--user", "facts", "--current").out
    assert "Porto" in current
    assert "superseded" not in current
    assert shell.ok("facts", "Zebedee", "--user", "facts").out == "nothing is known of Zebedee\n"
    assert "episode" in shell.ok("facts", "--agent", "--user", "facts").out


def test_forget_asks_first(shell: Shell) -> None:
    def known() -> int:
        return int(shell.ok("facts", "--user", "oblivion", "--json").json["total"])

    shell.ok("say", "My sister Emma lives in Lisbon.", "--user", "oblivion", "--session", "one", "--wait")
    before = known()
    assert before
    for scope in (["entity", "Emma"], ["session", "one"], ["everything"]):
        assert shell("forget", *scope, "--user", "oblivion", typed="n\n").code == FAILED
    assert known() == before
    assert shell.ok("forget", "entity", "Emma", "--user", "oblivion", typed="y\n").out.endswith("forgotten\n")
    again = shell.ok("forget", "entity", "Emma", "--user", "oblivion", "--yes")
    assert again.out == "nothing of that name is known\n"
    assert shell.ok("forget", "everything", "--user", "oblivion", "--yes").out == "forgotten\n"
    assert known() == 0


def test_queue_tells_what_waits_and_what_is_dead(shell: Shell) -> None:
    report = shell.ok("queue", "--json").json
    assert report["dead_letters"] == []
    assert report["graphs"].keys() == {"user", "agent"}
    assert "no dead letters" in shell.ok("queue").out
    told = shell("queue", "retry", "1", "user")
    assert told.code == FAILED
    assert "[unknown_entry]" in told.err
    assert shell("queue", "retry", "1", "no-graph").code == USAGE


def test_watch_shows_turns_of_others_as_they_happen(shell: Shell) -> None:
    watching = subprocess.Popen([SHOAL, "watch", "--json"], stdout=subprocess.PIPE, text=True, env=shell.environment)
    assert watching.stdout is not None
    events = (json.loads(line) for line in watching.stdout)
    with ThreadPoolExecutor(1) as reading:
        try:
            # Until the watcher is connected it sees nothing, and then perhaps the end of a turn first.
            first = reading.submit(next, (event for event in events if "understood" in event))
            while not first.done():
                shell.ok("say", "My sister Emma lives in Lisbon.", "--user", "watched", "--wait")
            turn = first.result()
            assert turn["understood"]["text"] == "My sister Emma lives in Lisbon."
            stored = [next(events) for _ in range(2)]
            assert [event["seq"] for event in stored] == [turn["seq"], turn["seq"]]
            assert {graph for event in stored for graph in event["stored"]} == {"user", "agent"}
            watching.send_signal(signal.SIGINT)
            assert watching.wait(LIFE_TIMEOUT_S) == 130
        finally:
            watching.kill()  # and with it ends what reads from it
            watching.wait()
    watching.stdout.close()


# --- models -----------------------------------------------------------------------------------------


def test_models_are_listed_shown_and_verified(shell: Shell) -> None:
    listed = {f"{model['name']}@{model['version']}": model for model in shell.ok("models", "list", "--json").json}
    active = {version for version, model in listed.items() if model["active"]}
    assert active == set(Status.model_validate(shell.ok("status", "--json").json).models.values())
    version = next(iter(active))
    assert json.loads(shell.ok("models", "show", version).out)["licence"]
    assert shell.ok("models", "verify").out.count(": whole\n") == len(listed)
    assert shell.ok("models", "list").out.count("●") == len(active)
    for arguments, code in (
        (["show", "encoder@9.9.9"], "unknown_version"),
        (["activate", "nothing@1.0.0"], "unknown_model"),
        (["rollback", "extractor"], "nothing_to_roll_back"),
    ):
        told = shell("models", *arguments)
        assert told.code == FAILED
        assert f"[{code}]" in told.err


def test_no_version_is_activated_behind_the_back_of_a_daemon(idle: Shell) -> None:
    listed = idle.ok("models", "list", "--json").json
    other = next(f"{m['name']}@{m['version']}" for m in listed if m["name"] == "classifier" and not m["active"])

    def told() -> Told:
        return idle("models", "activate", other)

    with sole_owner(idle.folder / "home"):  # one that is starting
        assert "[home_in_use]" in told().err
    (idle.folder / "run").mkdir(mode=0o700, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(idle.folder / "run" / "shoal.sock"))
        listening.listen()
        closing = Thread(target=lambda: listening.accept()[0].close())  # one whose reply is lost
        closing.start()
        assert told().code == UNREACHABLE
        closing.join()
    (idle.folder / "run" / "shoal.sock").unlink()
    assert idle.ok("models", "list", "--json").json == listed
    assert told().code == 0


# --- settings and usage -----------------------------------------------------------------------------


def test_schema_prints_what_replies_are_valid_against(idle: Shell) -> None:
    assert json.loads(idle.ok("schema").out) == ingested_schema(load_schema())


def test_config_tells_each_value_and_its_origin(idle: Shell) -> None:
    file = idle.folder / "mine.toml"
    file.write_text('user = "lena"\n[log]\nlevel = "debug"\n[graph]\npassword = "secret"\n')
    told = idle.ok("--config", str(file), "--set", "turn.context_turns=2", "config", "--json")
    settings = told.json
    assert settings["log.level"] == {"value": "debug", "origin": str(file)}
    assert settings["turn.context_turns"] == {"value": 2, "origin": "command line"}
    assert settings["metrics.port"] == {"value": 0, "origin": "environment"}
    assert settings["ray.num_cpus"]["origin"] == "default"
    assert "secret" not in told.out
    shown = idle.ok("config").out
    assert '"local"' in shown
    assert "environment" in shown


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--set", "turn.deadline_s=soon"], ["turn.deadline_s", "soon", "command line"]),
        (["--set", "no.such=1"], ["no", "command line"]),
        (["--set", "nonsense"], ["KEY=VALUE"]),
        (["--config", "nowhere.toml"], ["nowhere.toml"]),
    ],
)
def test_a_bad_setting_is_one_line_that_names_it(idle: Shell, arguments: list[str], named: list[str]) -> None:
    told = idle(*arguments, "status")
    assert told.code == BAD_SETTINGS
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert all(word in told.err for word in named)


def test_wrong_usage_is_told_apart(idle: Shell) -> None:
    for arguments in (["no-such-command"], ["facts", "--limit", "0"]):
        told = idle(*arguments)
        assert told.code == USAGE
        assert "Usage" in told.err


@pytest.mark.parametrize("arguments", [["queue", "retry", "0", "user"], ["stored", "5", "--timeout", "9999"]])
def test_a_request_that_cannot_be_meant_is_told_apart(idle: Shell, arguments: list[str]) -> None:
    told = idle(*arguments)
    assert told.code == USAGE
    assert told.err.startswith("shoal: ")


def test_help_lists_every_command(idle: Shell) -> None:
    shown = idle.ok("--help").out
    for command in "start stop status say watch facts queue models config schema forget demo stored".split():
        assert f" {command} " in shown


# --- what is not imported ---------------------------------------------------------------------------

HEAVY = ("torch", "transformers", "mlx", "tensorflow")


def imported(program: str, environment: dict[str, str] | None = None) -> set[str]:
    """The top-level modules that a Python program has imported by its end."""
    told = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        check=True,
        text=True,
        env=environment,
        timeout=LIFE_TIMEOUT_S,
    )
    return {name.partition(".")[0] for name in json.loads(told.stdout.splitlines()[-1])}


def test_the_daemons_modules_import_nothing_heavy() -> None:
    modules = imported("import daemon.app, daemon.cli")
    assert {"daemon", "actors", "neo4j"} <= modules
    assert not modules & {*HEAVY, "ray"}


RUN = """
import asyncio
from config.settings import load_settings
from daemon.app import running
from daemon.client import Client
from daemon.protocol import Ingest, Ingested

async def main():
    settings = load_settings().settings
    async with running(settings):
        async with Client(settings.server_uri, settings.server) as client:
            await client.request(Ingest(text="Emma lives in Lisbon."), Ingested)

asyncio.run(main())
"""


def test_a_daemon_that_has_served_a_turn_has_imported_nothing_heavy(idle: Shell) -> None:
    away = {"SHOAL_GRAPH__URI": "bolt://127.0.0.1:1", "SHOAL_SERVER__DRAIN_TIMEOUT_S": "0.1"}
    modules = imported(RUN, idle.environment | away)
    assert {"onnxruntime", "tokenizers"} <= modules
    assert not modules & {*HEAVY, "ray"}
