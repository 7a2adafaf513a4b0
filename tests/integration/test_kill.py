"""Signal 9 in the middle of 300 turns, to the daemon, an actor, the database: nothing acknowledged is lost or doubled.

Clients behave as the protocol asks: what was not acknowledged is sent again, with the same turn id.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import psutil

from config.settings import Settings
from daemon.client import Client
from daemon.errors import DaemonUnreachable
from daemon.protocol import Ingest, Ingested
from tests.contract.gates import eventually
from tests.integration.conversation import left_in, say
from tests.integration.daemon_process import DaemonProcess, daemon, settings_in
from tests.neo4j.server import GraphServer

TURNS, CLIENTS = 300, 6
GONE_TIMEOUT_S = 60.0
MONDAY = 1772452800.0
SAID = (
    "My sister Emma lives in Lisbon.",
    "My brother Tom lives in Graz.",
    "Emma works at Bluefin.",
    "Biscuit is four years old.",
    "What is the weather in Graz?",
)


class Crowd:
    """Clients that share the turns, each with a session of its own. When a turn was said tells it from all others."""

    def __init__(self, settings: Settings) -> None:
        self.acknowledged: dict[int, Ingested] = {}
        self.retries = 0
        self._settings = settings
        self._grew = asyncio.Condition()

    async def talk(self) -> None:
        """Until every turn is acknowledged."""
        async with asyncio.TaskGroup() as clients:
            for number in range(CLIENTS):
                clients.create_task(self._client(number))

    async def reached(self, count: int) -> None:
        """Wait until this many turns are acknowledged."""
        async with self._grew:
            await self._grew.wait_for(lambda: len(self.acknowledged) >= count)

    async def _client(self, number: int) -> None:
        left = list(range(number, TURNS, CLIENTS))
        while left:
            # The daemon may be away, or go away before it answers: then this turn is sent again.
            with suppress(DaemonUnreachable):
                async with Client(self._settings.server_uri, self._settings.server) as client:
                    while left:
                        reply = await client.request(self._turn(left[0], f"client {number}"), Ingested)
                        async with self._grew:
                            self.acknowledged[left.pop(0)] = reply
                            self._grew.notify_all()
            if left:
                self.retries += 1
                await asyncio.sleep(0.05)

    def _turn(self, number: int, session: str) -> Ingest:
        said_at = MONDAY + number
        return Ingest(text=SAID[number % len(SAID)], session=session, turn_id=f"turn {number}", said_at=said_at)


async def assert_each_once(server: GraphServer, crowd: Crowd) -> None:
    """Both graphs count every acknowledged turn once, and hold no other."""
    assert len(crowd.acknowledged) == TURNS
    receipts = {number: reply.seq for number, reply in crowd.acknowledged.items()}
    assert len(set(receipts.values())) == TURNS

    rows = await server.run("user", "MATCH (u:Utterance:UserGraph) RETURN u.said_at, u.seq, u.text, u.id")
    assert sorted((said_at - MONDAY, seq, text) for said_at, seq, text, _ in rows) == [
        (number, receipts[number], SAID[number % len(SAID)]) for number in range(TURNS)
    ]
    turn_of = {utterance: int(said_at - MONDAY) for said_at, _, _, utterance in rows}
    facts = await server.run(
        "user",
        "MATCH (a:UserGraph)-[f]->(b:UserGraph) WHERE f.status IS NOT NULL "
        "RETURN a.id, type(f), b.id, f.times_said, f.utterances",
    )
    assert facts
    for _, _, _, times_said, utterances in facts:
        assert times_said == len(utterances) == len(set(utterances))
    triples = [(start, predicate, end) for start, predicate, end, _, _ in facts]
    assert len(set(triples)) == len(triples), "said again, a fact grows stronger: it makes no second row"
    held = {(turn_of[utterance], predicate) for _, predicate, _, _, utterances in facts for utterance in utterances}
    announced = {
        (number, told["predicate"])
        for number, reply in crowd.acknowledged.items()
        for told in reply.understood["statements"]
        if told["status"] == "asserted"
    }
    assert announced
    assert announced <= held

    # The agent graph holds no utterances: it counts.
    for kind in ("Session", "Episode"):
        counted = await server.run("agent", f"MATCH (n:{kind}:AgentGraph) RETURN n.session, n.turns")
        assert sorted(counted) == [[f"client {number}", TURNS // CLIENTS] for number in range(CLIENTS)]


async def survives(running: DaemonProcess, strike: Callable[[Crowd], Awaitable[None]]) -> Crowd:
    """Let a crowd talk, strike meanwhile, and wait until the graphs have it all."""
    crowd = Crowd(running.settings)
    async with asyncio.TaskGroup() as under_way:
        under_way.create_task(crowd.talk())
        under_way.create_task(strike(crowd))
    report = await running.drained()
    assert report.dead_letters == 0
    return crowd


async def gone(processes: list[psutil.Process]) -> None:
    """Wait until they have ended. A process that nobody has buried yet has ended too."""
    async with asyncio.timeout(GONE_TIMEOUT_S):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    await asyncio.sleep(0.05)


def is_agent(process: psutil.Process) -> bool:
    """Whether it is one of Ray's own agents, which look after their parent once a while, and follow within a minute."""
    return (process.cmdline() or [""])[0].strip() in ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


async def test_kill_9_of_the_daemon(folder: Path) -> None:
    chance = random.Random(3)  # noqa: S311 - repeatable
    crowd = Crowd(settings_in(folder))

    async def lives() -> None:
        for struck in (chance.randint(30, 120), chance.randint(150, 260)):
            async with daemon(folder, runtime="local") as running:
                await crowd.reached(struck)
                children = running.children()
                assert children
                await running.kill()
                await gone(children)
        async with daemon(folder, runtime="local") as running:
            await crowd.reached(TURNS)
            report = await running.drained()
            assert report.dead_letters == 0

    async with asyncio.TaskGroup() as under_way:
        under_way.create_task(crowd.talk())
        under_way.create_task(lives())
    assert crowd.retries >= 2
    async with left_in(folder) as server:
        await assert_each_once(server, crowd)


async def test_kill_9_of_the_database(folder: Path) -> None:
    async with daemon(folder, runtime="local") as running:

        async def strike(crowd: Crowd) -> None:
            for struck in (60, 180):
                await crowd.reached(struck)
                (server,) = running.children("java")
                server.kill()
                await gone([server])

        crowd = await survives(running, strike)
        report = await running.status()
        assert report.state == "ready"
        assert sum(graph["retries"] for graph in report.graphs.values()) > 0
        assert crowd.retries == 0, "no client ever noticed"
    async with left_in(folder) as server:
        await assert_each_once(server, crowd)


async def test_kill_9_of_actors_and_of_a_daemon_with_its_ray(folder: Path) -> None:
    async with daemon(folder) as running:

        async def strike(crowd: Crowd) -> None:
            for struck, slm in ((40, "extractor"), (120, "encoder"), (200, "extractor")):
                await crowd.reached(struck)
                (actor,) = (actor for actor in (await running.status()).actors if actor["slm"] == slm)
                host = psutil.Process(actor["pid"])
                host.kill()

        crowd = await survives(running, strike)
        assert crowd.retries == 0, "every request ended in a receipt"
        async with asyncio.timeout(60):
            while (report := await running.status()).state != "ready":
                await asyncio.sleep(0.2)
        restarts = {actor["slm"]: actor["restarts"] for actor in report.actors}
        assert restarts["extractor"] >= 1
        assert restarts["encoder"] >= 1
        assert restarts["classifier"] == 0

        family = [child for child in running.children() if not is_agent(child)]
        assert {actor["pid"] for actor in report.actors} < {child.pid for child in family}
        await running.kill()
        await gone(family)
    async with left_in(folder) as server:
        await assert_each_once(server, crowd)


async def test_a_daemon_whose_ray_dies_ends_with_a_code_and_keeps_what_it_took(folder: Path) -> None:
    """A supervisor starts it again; it must not sit there without its models, nor hang on the way out."""
    async with daemon(folder) as shoal, shoal.client() as client:
        reply = await say(client, "My sister Emma lives in Lisbon.")
        next(child for child in shoal.children() if child.name() == "raylet").kill()
        assert await shoal.ended() == 1
        assert "shoal: Ray's raylet ended: start Shoal again [runtime_lost]" in shoal.log.splitlines()
        assert "Traceback" not in shoal.log
        # Ray's own agents need up to a minute to see that they are alone.
        await eventually(lambda: not [one for one in psutil.process_iter() if str(folder) in cmdline(one)], 90.0)
    async with daemon(folder, runtime="local") as again:
        await again.stored(reply.seq)


def cmdline(process: psutil.Process) -> str:
    """A process' arguments; none of one that is gone."""
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""
