"""A daemon in a network of its own: `unshare --map-root-user --net python -m tests.integration.alone FOLDER`.

Prints how many turns it took, and how often anything in this network tried to reach what is not loopback.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

from tests.integration.conversation import demo, say
from tests.integration.daemon_process import daemon

SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
LINGER_S = 10.0
"""What reports of itself does so seconds after it starts."""


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def tried() -> int:
    """Packets of IPv4 and IPv6 for which there was no route."""
    names, values = (line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:"))
    six = dict(line.split() for line in Path("/proc/net/snmp6").read_text().splitlines())
    return int(dict(zip(names, values, strict=True))["OutNoRoutes"]) + int(six["Ip6OutNoRoutes"])


async def main(folder: Path) -> None:
    loopback_up()
    before = tried()
    async with daemon(folder) as running:
        async with running.client() as client:
            replies = [await say(client, text, speaker=speaker) for speaker, text in demo()]
        await running.stored(replies[-1].seq)
        await asyncio.sleep(LINGER_S)
    after = tried()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out, suppress(OSError):
        out.sendto(b"hello", ("192.0.2.1", 9))
    print(json.dumps({"turns": len(replies), "tried": after - before, "tried_on_purpose": tried() - after}))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
