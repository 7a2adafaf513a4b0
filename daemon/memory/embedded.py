"""The embedded graph server: ArcadeDB as a child process on a loopback port, with a password of its own."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import socket
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import IO, Final

import psutil
import structlog

from config.settings import EmbeddedSettings, GraphSettings
from daemon.errors import GraphMisconfigured, GraphRefused, GraphUnavailable, HomeInUse
from daemon.memory.graph import GraphStore, Target
from daemon.memory.records import GraphName

log = structlog.get_logger(__name__)

DATABASES: Final[tuple[GraphName, ...]] = ("user", "agent")
UNUSED_JARS: Final = ("arcadedb-console", "arcadedb-graphql", "arcadedb-mcp", "arcadedb-postgresw", "arcadedb-redisw")
POLL_S: Final = 0.05
STOP_TIMEOUT_S: Final = 8.0
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.2, 15.0

# Reads until the daemon's end of the pipe closes, however the daemon died, then ends the server.
WATCH: Final = 'read -r _; kill "$0"'


class EmbeddedGraph:
    """Keeps one server alive for as long as the daemon lives, and restarts it when it dies.

    `locate(name)` says where a graph is now; `GraphStore` asks it before each use.
    """

    def __init__(self, root: Path, settings: GraphSettings) -> None:
        """`root` holds the databases, the server's log and its configuration; nobody else may read it."""
        self.restarts = 0
        self._root = root.resolve()
        self._graph_settings = settings
        self._settings: EmbeddedSettings = settings.embedded
        self._lock: IO[bytes] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.subprocess.Process | None = None
        self._target: Target | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process and running else None

    def locate(self, name: GraphName) -> Target:
        """Raises: GraphUnavailable while the server is down or starting."""
        target = self._target
        if target is None or self.pid is None:
            raise GraphUnavailable("the embedded graph server is down or starting")
        return replace(target, database=name)

    async def start(self) -> None:
        """Start the server and wait until both databases answer.

        Raises:
            HomeInUse: another daemon uses `root`.
            GraphUnavailable: the server died or did not answer in `start_timeout_s`; its log says why. It is started
                again until `stop`.
        """
        for folder in (self._root, self._root / "config"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        self._take_lock()
        try:
            await asyncio.to_thread(self._end_stale_server)
            await self._launch()
        except GraphUnavailable:
            self._keeper = asyncio.create_task(self._keep_alive(), name="embedded-graph")
            raise
        except BaseException:
            await self.stop()
            raise
        self._keeper = asyncio.create_task(self._keep_alive(), name="embedded-graph")

    async def stop(self) -> None:
        """End the server: asked first, so that it closes its databases, then killed."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        await self._end_server()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _take_lock(self) -> None:
        self._lock = _private(self._root / "lock")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            self._lock = None
            raise HomeInUse(f"another daemon uses the graph in {self._root}") from None

    def _end_stale_server(self) -> None:
        """End a server that outlived its daemon. The lock is ours, so whoever serves this root is a left-over."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.uids().real != os.getuid() or self._root_option not in process.cmdline():
                    continue
                log.warning("stale_graph_server_ended", pid=process.pid)
                process.terminate()
                try:
                    process.wait(STOP_TIMEOUT_S)
                except psutil.TimeoutExpired:
                    process.kill()
                    process.wait(STOP_TIMEOUT_S)

    @property
    def _root_option(self) -> str:
        return f"-Darcadedb.server.rootPath={self._root}"

    async def _launch(self) -> None:
        password = secrets.token_urlsafe(24)
        bolt_port, http_port = _free_ports()
        # A file keeps the password out of `ps`. The users' file of the last run holds another one.
        secret = self._root / "config" / "root-password"
        secret.unlink(missing_ok=True)
        (self._root / "config" / "server-users.jsonl").unlink(missing_ok=True)
        output = self._root / "server.log"
        if output.exists():
            output.replace(output.with_suffix(".log.1"))
        try:
            with _private(secret) as file:
                file.write(password.encode())
            with _private(output) as sink:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command(secret, bolt_port, http_port),
                    cwd=self._root,
                    env={"PATH": os.defpath, "LANG": "C.UTF-8"},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    umask=0o077,
                    start_new_session=True,
                )
            self._watcher = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", WATCH, str(self._process.pid)),
                # One of its own: Ray changes the daemon's in another thread, and a child may meet it half changed.
                env={"PATH": os.defpath},
                stdin=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
            target = Target(f"bolt://127.0.0.1:{bolt_port}", "root", password)
            await self._ready(self._process, target)
        except BaseException:
            await self._end_server()
            raise
        finally:
            secret.unlink(missing_ok=True)
        self._target = target
        log.info("graph_server_ready", pid=self._process.pid, port=bolt_port)

    def _command(self, secret: Path, bolt_port: int, http_port: int) -> list[str]:
        package = Path(str(resources.files("arcadedb_embedded")))
        packed = package / "jre" / "bin" / "java"
        java = str(packed) if packed.exists() else shutil.which("java")
        if java is None:
            raise GraphMisconfigured(f"no Java for the embedded graph in {package}: set graph.uri to use a Neo4j")
        jars = sorted(str(jar) for jar in (package / "jars").glob("*.jar") if not jar.name.startswith(UNUSED_JARS))
        options = {
            "server.rootPasswordPath": secret,
            "server.databaseDirectory": self._root / "databases",
            "server.plugins": "Bolt:com.arcadedb.bolt.BoltProtocolPlugin",
            "server.defaultDatabases": ";".join(f"{name}[root]" for name in DATABASES),
            "server.mode": "production",
            "bolt.host": "127.0.0.1",
            "bolt.port": bolt_port,
            # The HTTP server cannot be switched off.
            "server.httpIncomingHost": "127.0.0.1",
            "server.httpIncomingPort": http_port,
            # Every commit is on disk before it is acknowledged.
            "txWalFlush": 2,
            # Nothing leaves the machine.
            "support.autoRegister": "false",
            "opencypher.loadCsv.allowRemoteUrls": "false",
        }
        return [
            java,
            f"-Xmx{self._settings.heap_mb}m",
            # A small heap beside other work: the simplest collector, and the compiler that warms up at once.
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            self._root_option,
            *(f"-Darcadedb.{key}={value}" for key, value in options.items()),
            "-cp",
            os.pathsep.join(jars),
            "com.arcadedb.server.ArcadeDBServer",
        ]

    async def _ready(self, process: asyncio.subprocess.Process, target: Target) -> None:
        output = self._root / "server.log"
        try:
            async with asyncio.timeout(self._settings.start_timeout_s):
                while process.returncode is None:
                    try:
                        for name in DATABASES:
                            await self._ping(name, replace(target, database=name))
                    except (GraphUnavailable, GraphRefused):
                        await asyncio.sleep(POLL_S)
                    else:
                        return
        except TimeoutError:
            raise GraphUnavailable(
                "the embedded graph server did not answer within graph.embedded.start_timeout_s = "
                f"{self._settings.start_timeout_s:g}; its log is {output}"
            ) from None
        raise GraphUnavailable(f"the embedded graph server ended with status {process.returncode}; its log is {output}")

    async def _ping(self, name: GraphName, target: Target) -> None:
        store = GraphStore(name, lambda: target, self._graph_settings)
        try:
            await store.ping()
        finally:
            await store.close()

    async def _keep_alive(self) -> None:
        backoff_s = BACKOFF_MIN_S
        while True:
            process = self._process
            if process is not None and process.returncode is None:
                status = await process.wait()
                log.warning("graph_server_died", status=status)
            await self._end_server()
            try:
                await self._launch()
            except (GraphUnavailable, OSError) as error:
                log.error("graph_server_not_started", error=str(error), again_in_s=backoff_s)
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
            else:
                self.restarts += 1
                backoff_s = BACKOFF_MIN_S

    async def _end_server(self) -> None:
        self._target = None
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            # Killed, not closed: at the end of its pipe it would signal a process number that may be another's by then.
            with contextlib.suppress(ProcessLookupError):
                watcher.kill()
            await watcher.wait()
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            log.warning("graph_server_killed", pid=process.pid)
            process.kill()
            await process.wait()


def _private(path: Path) -> IO[bytes]:
    """The file, empty, for its owner alone."""
    return open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600))


def _free_ports() -> tuple[int, int]:
    """Two loopback ports that nobody listens on. Where one is taken before the server binds it, it is started again."""
    with socket.socket() as first, socket.socket() as second:
        for probe in (first, second):
            probe.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]
