"""`make bench`: every promise of the design beside what this machine does, and the ratio to two yardsticks."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

import psutil

from config.settings import load_settings
from daemon import show
from registry.bundled import BUNDLED
from tests.bench import socket_to_graph, yardsticks
from tests.bench.daemon_process import daemon
from tests.bench.measure import Latency
from tests.bench.yardsticks import TURNS


async def run(count: int, serve_python: Path | None) -> None:
    """Measure and print."""
    console = show.console()
    console.print(f"{psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f} before the start; {count} turns each")
    made = show.table("measure", "p50 ms", "p95 ms", "p99 ms", "promised")

    def row(name: str, latency: Latency, promised: str = "") -> None:
        made.add_row(name, f"{latency.p50:.1f}", f"{latency.p95:.1f}", f"{latency.p99:.1f}", promised)

    settings = load_settings().settings
    alone = await asyncio.to_thread(yardsticks.direct, settings, TURNS, count)
    async with daemon() as running:
        whole, stages, overhead = await socket_to_graph.latency(running, TURNS, count)
        stored = await socket_to_graph.storing(running, TURNS, count // 4)
        speeds = {clients: await socket_to_graph.throughput(running, TURNS, clients, count) for clients in (1, 4, 16)}
        used_mb = await socket_to_graph.memory_mb(running)
    async with daemon(runtime="local") as running:
        local, _, _ = await socket_to_graph.latency(running, TURNS, count)
    row("text to receipt", whole, "p50 < 15, p95 < 30")
    for stage, latency in stages.items():
        row(f"  {stage}", latency)
    row("overhead (all but model time)", overhead, "p99 < 15")
    row("text to receipt, local runtime", local)
    row("receipt to stored in both graphs", stored)
    row("the models alone, in one process", alone)
    if serve_python is not None:
        served = await _through_serve(serve_python, count)
        row("the models through Ray Serve", served)
        console.print(made)
        console.print(
            f"ratio to Ray Serve (p50): {whole.p50 / served.p50:.2f} — with socket, facts and journal in ours alone"
        )
    else:
        console.print(made)
    console.print(
        f"ratio to the models alone (p50): {whole.p50 / alone.p50:.2f}; local runtime {local.p50 / alone.p50:.2f}"
    )
    console.print(
        "turns per second: " + ", ".join(f"{clients} clients {speed:.0f}" for clients, speed in speeds.items())
    )
    console.print(show.rows(("process", "MB"), [(name, f"{used:.0f}") for name, used in sorted(used_mb.items())]))
    bundled_mb = sum(file.stat().st_size for file in BUNDLED.rglob("*") if file.is_file()) / 1e6
    console.print(f"bundled text models on disk: {bundled_mb:.1f} MB (promised < 60)")


async def _through_serve(python: Path, count: int) -> Latency:
    process = await asyncio.create_subprocess_exec(
        python, "-m", "tests.bench.yardsticks", str(count), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the Ray Serve yardstick ended with {process.returncode}")
    return Latency(**json.loads(printed.splitlines()[-1]))


def main() -> None:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="turns of each measurement")
    parser.add_argument("--serve-python", type=Path, help="an interpreter that has Ray Serve; left out without it")
    options = parser.parse_args()
    asyncio.run(run(options.count, options.serve_python))


main()
