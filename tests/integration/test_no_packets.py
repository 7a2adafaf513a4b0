"""Nothing leaves the machine: a running daemon and all its processes speak over loopback and Unix sockets alone."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from tests.integration.conversation import demo, say
from tests.integration.daemon_process import DaemonProcess


def family(shoal: DaemonProcess) -> list[psutil.Process]:
    return [psutil.Process(shoal.pid), *shoal.children()]


def connections(shoal: DaemonProcess) -> list[tuple[str, str, str]]:
    """(process, address, state) of every end of every IP socket that the daemon's processes hold."""
    found = []
    for process in family(shoal):
        with suppress(psutil.NoSuchProcess):
            held = [(held, process.name()) for held in process.net_connections("inet")]
            found += [(name, end.ip, each.status) for each, name in held for end in (each.laddr, each.raddr) if end]
    return found


def is_loopback(address: str) -> bool:
    """Also of an IPv4 address that an IPv6 socket holds."""
    ip = ipaddress.ip_address(address)
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


async def test_every_socket_is_on_loopback(shoal: DaemonProcess) -> None:
    """Looked at again and again while turns are under way: a short call out would be seen too, or leave its trace."""
    seen: set[tuple[str, str, str]] = set()
    talking = True

    async def look() -> None:
        while talking:
            seen.update(await asyncio.to_thread(connections, shoal))

    looking = asyncio.create_task(look())
    async with shoal.client() as client:
        replies = [await say(client, text, speaker=speaker, user="packets") for speaker, text in demo()]
    await shoal.stored(replies[-1].seq)
    talking = False
    await looking

    assert {process for process, _, _ in seen} >= {"java", "raylet", "gcs_server"}
    assert any(state == psutil.CONN_LISTEN for _, _, state in seen)
    assert [held for held in seen if not is_loopback(held[1])] == []


async def test_the_address_that_others_reach_this_machine_by_is_closed(shoal: DaemonProcess) -> None:
    """Every port that is listened at on loopback refuses who comes from elsewhere."""
    ports = {
        held.laddr.port
        for process in family(shoal)
        for held in process.net_connections("inet")
        if held.status == psutil.CONN_LISTEN
    }
    assert ports
    addresses = [
        address.address
        for interface in psutil.net_if_addrs().values()
        for address in interface
        if address.family == socket.AF_INET and not is_loopback(address.address)
    ]
    for address in addresses:
        for port in ports:
            with socket.socket() as probe:
                probe.settimeout(5)
                assert probe.connect_ex((address, port)) != 0, f"{address}:{port} answers"


async def test_rays_process_that_would_ask_where_it_runs_is_not_there(shoal: DaemonProcess) -> None:
    """Even with its reports switched off it asks the metadata servers of three cloud providers, by name and address."""
    commands = [" ".join(process.cmdline()) for process in shoal.children()]
    assert any("raylet" in command for command in commands)
    assert [command for command in commands if "dashboard/dashboard.py" in command] == []


def can_leave_the_network() -> bool:
    """Whether this machine lets a process have a network of its own, which holds loopback alone."""
    try:
        return subprocess.run(["unshare", "--map-root-user", "--net", "true"], capture_output=True).returncode == 0  # noqa: S607
    except FileNotFoundError:
        return False


if can_leave_the_network():

    async def test_where_there_is_no_network_nothing_even_tries(folder: Path) -> None:
        """The kernel counts every packet that it has no route for: a name to look up, a server to report to."""
        command = ["unshare", "--map-root-user", "--net", sys.executable, "-m", "tests.integration.alone", str(folder)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout.splitlines()[-1])
        assert told["turns"] == len(demo())
        assert told["tried"] == 0
        assert told["tried_on_purpose"] == 1, "the kernel counts"
