"""Nothing leaves the machine: a running daemon and all its processes speak over loopback and Unix sockets alone."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import suppress

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


async def test_ray_reports_nothing_and_shows_no_dashboard(shoal: DaemonProcess) -> None:
    """The one process of Ray's that could report its use is told not to, and serves no page."""
    (head,) = [
        process for process in shoal.children() if any("dashboard/dashboard.py" in arg for arg in process.cmdline())
    ]
    assert head.environ()["RAY_USAGE_STATS_ENABLED"] == "0"
    assert "--disable-frontend" in head.cmdline()
    assert [held for held in head.net_connections("inet") if held.status == psutil.CONN_LISTEN] == []
