"""Hosts as Ray actors. The only module that imports Ray, and late: Ray reads its environment when it is imported."""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import logging
import os
import secrets
import shutil
import stat
import subprocess
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import psutil

from actors.errors import (
    ActorError,
    RayFailed,
    RuntimeLost,
    SlmFailed,
    SlmTimeout,
    SlmUnavailable,
    StartTimeout,
)
from actors.fleet import Berth, Fleet, specs
from actors.host import CLOSE_GRACE_S, Host, HostSpec
from actors.lane import Lane
from actors.messages import Answer, HostHealth, Request
from actors.wire import pack, unpack
from config.settings import RaySettings, Settings

T = TypeVar("T")

HEALTH_TIMEOUT_S = 1.0
PROBE_TIMEOUT_S = 10.0
SWAP_MARGIN_S = 5.0
"""How much longer than its load may take a swap is waited for."""
STOP_TIMEOUT_S = 10.0
PARENT_CHECK_S = 1.0
PROCESS_END_S = 10.0
CONTROL_CALLS = 16
"""Room for health, swap and drain when a host's queue is full."""
MAX_PRIVATE_FOLDER = 36
"""Characters that leave room for Ray's socket names below the 103 bytes that macOS allows."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Without it Ray warns that it will one day stop to hide the GPUs from actors that ask for none.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
PRIVATE_ENVIRONMENT = {
    # Ray's name for "this node is on loopback", which it otherwise does on macOS and Windows alone.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Hosts answer a person who waits: by default Ray puts them behind everything else on the machine.
    "RAY_worker_niceness": "0",
    # A call to a host that has died fails in tenths of a second instead of two: in time for another replica.
    "RAY_timeout_ms_task_wait_for_death_info": "50",
    "RAY_core_worker_internal_heartbeat_ms": "100",
}

_log = logging.getLogger(__name__)


class RayRuntime:
    """A `Runtime` whose hosts are Ray actors: in a private Ray on loopback, or in the cluster at `ray.address`.

    Raises from `start`, besides what `Runtime` promises: RayFailed.
    """

    def __init__(self, settings: Settings, registry_root: Path) -> None:
        self._settings = settings
        self._registry_root = registry_root.absolute()
        self._fleet: Fleet | None = None
        self._replicas: list[RayReplica] = []
        self._connected = self._owns_ray = self._lost = False
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        # Ray's processes are tied to the thread that starts them, so it lives as long as they do.
        self._lane = Lane("ray")

    async def start(self) -> None:
        try:
            await self._start()
        except BaseException:
            await self.stop(0.0)
            raise

    async def call(self, slm: str, request: Request, deadline_s: float) -> Answer:
        return await self._started.call(slm, request, deadline_s)

    async def swap(self, slm: str, version: str) -> None:
        await self._started.swap(slm, version)

    async def health(self) -> Sequence[HostHealth]:
        fleet = self._started
        if dead := [name for name, process in self._processes if process.poll() is not None]:
            self._lost = True
            raise RuntimeLost(f"Ray's {' and '.join(dead)} ended: start Shoal again")
        return await fleet.health()

    async def stop(self, drain_timeout_s: float) -> None:
        if not self._lane.alive:
            return
        if self._fleet:
            await self._fleet.drain(drain_timeout_s)
        for host in self._replicas:
            host.close()
        ending = self._lane.run(self._end_ray)
        self._lane.close()
        if self._connected:
            with suppress(TimeoutError):  # a Ray that hangs is killed when this process ends
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await ending

    async def _start(self) -> None:
        ray = self._settings.ray
        try:
            async with asyncio.timeout(ray.start_timeout_s):
                await self._lane.run(self._begin_ray)
        except TimeoutError:
            raise RayFailed(f"Ray did not start in {ray.start_timeout_s} s") from None
        placed = specs(self._settings.slm, self._registry_root)
        for spec in placed:
            self._replicas.append(RayReplica(spec, await self._lane.run(_place, spec, ray)))
        await asyncio.gather(*(host.start(ray.start_timeout_s) for host in self._replicas))
        self._fleet = Fleet(self._settings.slm, list(map(Berth, placed, self._replicas)))

    def _begin_ray(self) -> None:
        self._owns_ray = connect(self._settings.ray, self._settings.runtime_dir)
        self._connected = True
        self._processes = own_processes()

    def _end_ray(self) -> None:
        if self._lost:
            # To say goodbye to it would wait for answers that never come, here and at the end of this process.
            abandon()
            return
        for host in self._replicas:
            host.kill()
        if self._owns_ray:
            disconnect()

    @property
    def _started(self) -> Fleet:
        if self._fleet is None:
            raise SlmUnavailable("the runtime has not started")
        return self._fleet


class RayHost(Host):
    """A host as its actor process runs it."""

    def __init__(self, spec: HostSpec) -> None:
        super().__init__(spec)
        Thread(target=_exit_with_parent, args=(os.getppid(),), name="parent-watch", daemon=True).start()

    async def answer(self, request: bytes, remaining_s: float) -> bytes:
        return pack(await self.handle(unpack(request), remaining_s))


class RayReplica:
    """The handle of one host actor; while Ray restarts it, requests wait as long as their deadline allows."""

    def __init__(self, spec: HostSpec, actor: Any) -> None:
        self._spec = spec
        self._name = f"{spec.slm}-{spec.replica}"
        self.actor = actor
        self._pid = 0
        self._restarts = 0
        self._up = asyncio.Event()
        self._gone = False
        self._silent_since: float | None = None
        self._watch: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        return self._up.is_set()

    async def start(self, start_timeout_s: float) -> None:
        """Wait for the process and its model. Raises: ModelLoadError, StartTimeout, SlmUnavailable."""
        timeout_s = start_timeout_s + self._spec.settings.load_timeout_s
        try:
            await self._ask(self.actor.ready.remote(), timeout_s)
            self._notice(await self._ask(self.actor.health.remote(), timeout_s))
        except SlmTimeout:
            settings = self._spec.settings
            raise StartTimeout(
                f"{self._name}: not loaded in {timeout_s} s; it asks for {settings.num_cpus} CPU and "
                f"{settings.memory_mb} MB of Ray's resources"
            ) from None
        self._up.set()

    async def handle(self, request: Request, remaining_s: float) -> Answer:
        deadline = time.monotonic() + remaining_s
        if not self._up.is_set():
            await self._return(remaining_s)
            remaining_s = deadline - time.monotonic()
        try:
            packed = await self._ask(self.actor.answer.remote(pack(request), remaining_s), remaining_s)
        except SlmTimeout:
            self._suspect()
            raise
        answer: Answer = unpack(packed)
        return answer

    async def swap(self, version: str) -> str:
        timeout_s = self._spec.settings.load_timeout_s + SWAP_MARGIN_S
        return await self._ask(self.actor.swap.remote(version), timeout_s)

    async def health(self) -> HostHealth:
        try:
            told: HostHealth = await self._ask(self.actor.health.remote(), HEALTH_TIMEOUT_S)
        except ActorError:
            hung = self._silent_too_long()
            if hung:
                self._restart()
            return HostHealth(self._spec.slm, self._spec.replica, "down", "", 0, 0, 0, 0, 0, self._restarts, hung)
        self._silent_since = None
        self._notice(told)
        if told.hung:
            self._restart()
        return replace(told, restarts=self._restarts)

    async def drain(self, timeout_s: float) -> None:
        await self._ask(self.actor.drain.remote(timeout_s), timeout_s + 2 * CLOSE_GRACE_S)

    def close(self) -> None:
        """Stop waiting for a restart."""
        self._gone = True
        for task in (self._watch, self._probe):
            if task:
                task.cancel()

    def kill(self) -> None:
        import ray

        with suppress(Exception):  # it may be dead already
            ray.kill(self.actor, no_restart=True)

    async def _ask(self, reply: Awaitable[T], timeout_s: float) -> T:
        from ray.exceptions import RayActorError, RayError, RayTaskError

        try:
            async with asyncio.timeout(timeout_s):
                return await reply
        except TimeoutError:
            raise SlmTimeout(f"{self._name}: no answer within {timeout_s:.3f} s") from None
        except RayTaskError as error:
            if isinstance(error.cause, ActorError):
                raise error.cause from None
            raise SlmFailed(f"{self._name}: {type(error.cause).__name__} in its host") from None
        except RayActorError as error:
            self._lost()
            raise SlmUnavailable(f"{self._name}: {type(error).__name__}") from None
        except RayError as error:
            raise SlmUnavailable(f"{self._name}: {type(error).__name__}") from None

    def _silent_too_long(self) -> bool:
        """Whether a host that should be up has left questions after its health unanswered for `hang_timeout_s`."""
        now = time.monotonic()
        if not self.up:
            self._silent_since = None
            return False
        if self._silent_since is None:
            self._silent_since = now
        return now - self._silent_since > self._spec.settings.hang_timeout_s

    def _restart(self) -> None:
        """Kill a host that hangs; Ray starts it again as after any death."""
        import ray

        _log.warning("%s hangs; it is restarted", self._name)
        self._silent_since = None
        with suppress(Exception):  # it may have died meanwhile
            ray.kill(self.actor, no_restart=False)
        self._lost()

    def _suspect(self) -> None:
        """Find out whether the host is slow or lost: Ray may tell of a death only after a call's deadline."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._ask_whether_alive())

    async def _ask_whether_alive(self) -> None:
        with suppress(ActorError):  # `_ask` has noted a loss
            await self._ask(self.actor.health.remote(), PROBE_TIMEOUT_S)

    def _lost(self) -> None:
        self._up.clear()
        if not self._gone and (self._watch is None or self._watch.done()):
            self._watch = asyncio.create_task(self._await_restart())

    async def _await_restart(self) -> None:
        from ray.exceptions import RayError

        _log.warning("%s is lost; waiting for its restart", self._name)
        try:
            # Retried without end, Ray keeps this call until the host is back, or dead for good.
            told: HostHealth = await self.actor.health.options(max_task_retries=-1).remote()
        except RayError as error:
            _log.error("%s is dead and will not restart: %s", self._name, type(error).__name__)
            self._gone = True
        else:
            self._notice(told)
            if not told.model:
                await self._tell_what_is_wrong()
        self._up.set()

    async def _tell_what_is_wrong(self) -> None:
        try:
            await self._ask(self.actor.ready.remote(), PROBE_TIMEOUT_S)
        except ActorError as error:
            _log.error("%s came back without its model: %s", self._name, error)

    async def _return(self, remaining_s: float) -> None:
        if not self._gone:
            with suppress(TimeoutError):
                async with asyncio.timeout(remaining_s):
                    await self._up.wait()
                    return
        raise SlmUnavailable(f"{self._name}: {'dead' if self._gone else 'restarting'}")

    def _notice(self, health: HostHealth) -> None:
        """Count a restart when the process is another one."""
        self._restarts += self._pid not in (0, health.pid)
        self._pid = health.pid


def _exit_with_parent(parent: int) -> None:
    """Follow a killed daemon's raylet at once. Ray's workers need a minute for it: too long with a model in memory."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os._exit(1)


def set_environment(*, private: bool) -> None:
    """What Ray reads from the environment, some of it once, when it is imported."""
    os.environ.update(ENVIRONMENT)
    if private:
        os.environ.update(PRIVATE_ENVIRONMENT)
        # Other users of the machine reach loopback too: only who knows the token may run code here.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def connect(settings: RaySettings, runtime_dir: Path) -> bool:
    """Start the private Ray, or join a cluster; False where this process has one already, which is then used.

    Raises: RayFailed.
    """
    set_environment(private=not settings.address)
    import ray

    if ray.is_initialized():
        return False
    logging.getLogger("ray").setLevel(logging.ERROR)
    # `log_to_driver` does not cover the raylet's messages, which Ray prints: what matters of them is logged here.
    ray._private.worker._worker_logs_enabled = False
    if not settings.dashboard:
        # Without a dashboard this process has one use left: to ask the metadata servers of three cloud providers where
        # it runs, for a report that is switched off. It asks all the same, and nothing may leave this machine.
        ray._private.node.Node.start_api_server = _no_api_server
    # Marked as a client's, the job does not put our working directory first on its workers' path, where a folder named
    # like one of our packages would be taken for it.
    job = ray.job_config.JobConfig(_client_job=True)
    quiet = {"log_to_driver": False, "configure_logging": False}
    if settings.address:
        try:
            ray.init(address=settings.address, namespace=settings.namespace, job_config=job, **quiet)
        except Exception as error:  # Ray raises many kinds, bare RuntimeError and ConnectionError among them
            raise RayFailed(f"{settings.address}: {type(error).__name__}: {error}") from error
        return True

    folder = _session_folder(runtime_dir)
    give_up_at = time.monotonic() + settings.start_timeout_s
    while True:
        try:
            started = ray.init(
                address="local",
                namespace=settings.namespace,
                job_config=job,
                num_cpus=settings.num_cpus,
                num_gpus=0,
                object_store_memory=settings.object_store_mb << 20,
                include_dashboard=settings.dashboard,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(folder),
                **quiet,
            )
            break
        except Exception as error:
            _kill_leftovers(folder)
            # On a machine that is very busy Ray gives up on its own processes after 15 seconds, a fixed time.
            if "timed out" not in str(error) or time.monotonic() > give_up_at:
                raise RayFailed(f"private Ray: {type(error).__name__}: {error}") from error
            _log.warning("Ray did not start, trying again: %s", error)
    address = started.address_info["node_ip_address"]
    if address != "127.0.0.1":
        disconnect()
        raise RayFailed(f"Ray listens on {address} instead of loopback: something imported it before Shoal did")
    return True


def _kill_leftovers(folder: Path) -> None:
    """End what a failed start left running: the processes that know our folder."""
    ours = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if any(str(folder) in argument for argument in child.cmdline()):
                child.kill()
                ours.append(child)
    psutil.wait_procs(ours, timeout=PROCESS_END_S)


def disconnect() -> None:
    """Leave the cluster, or end the private Ray and wait for its processes."""
    import ray

    node = ray._private.worker._global_node
    processes = [info.process for infos in node.all_processes.values() for info in infos]
    ray.shutdown()
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(PROCESS_END_S)


def own_processes() -> list[tuple[str, subprocess.Popen[bytes]]]:
    """The processes of the private Ray that nothing works without; none where a cluster was joined."""
    import ray

    node = ray._private.worker._global_node
    started = node.all_processes if node else {}
    return [(name, info.process) for name in ("raylet", "gcs_server") for info in started.get(name, ())]


def abandon() -> None:
    """End a private Ray that is broken, without its help."""
    import ray

    atexit.unregister(ray._private.worker.shutdown)
    node = ray._private.worker._global_node
    for infos in node.all_processes.values():
        for info in infos:
            info.process.kill()
            info.process.wait(PROCESS_END_S)


def _no_api_server(_node: Any, **_options: Any) -> None:
    """In place of Ray's own method."""


def _place(spec: HostSpec, settings: RaySettings) -> Any:
    """Create the host's actor. A name that an ending daemon still holds is waited for. Raises: RayFailed."""
    import ray

    wanted = spec.settings
    host = ray.remote(RayHost).options(
        name=f"{spec.slm}-{spec.replica}",
        namespace=settings.namespace,
        num_cpus=wanted.num_cpus,
        memory=wanted.memory_mb << 20,
        max_restarts=wanted.max_restarts,
        max_task_retries=0,  # the fleet decides where to try again, and whether there is time
        max_concurrency=wanted.max_queued + wanted.max_batch + CONTROL_CALLS,
    )
    give_up_at = time.monotonic() + settings.start_timeout_s
    while True:
        try:
            return host.remote(spec)
        except ray.exceptions.ActorAlreadyExistsError as error:
            if time.monotonic() > give_up_at:
                raise RayFailed(f"another Shoal runs in the Ray namespace {settings.namespace!r}") from error
            time.sleep(0.1)
        except Exception as error:
            raise RayFailed(f"{spec.slm}: {type(error).__name__}: {error}") from error


def _session_folder(runtime_dir: Path) -> Path:
    """A folder short enough for Ray's sockets, in a private one, without the sessions of daemons that are gone."""
    private = runtime_dir.absolute() / "ray"
    if len(str(private)) > MAX_PRIVATE_FOLDER:
        name = hashlib.sha256(os.fsencode(private)).hexdigest()[:8]
        private = Path(f"/tmp/shoal-{os.geteuid()}-{name}")  # noqa: S108 (owner and mode are checked below)
    private.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = private.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise RayFailed(f"{private} must be a folder that nobody else can enter")
    folder = private / "s"  # Ray opens its own folder to everyone, hence the one around it
    for session in folder.glob("session_*_*"):
        pid = session.name.rpartition("_")[2]
        if not session.is_symlink() and pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(session, ignore_errors=True)
    return folder
