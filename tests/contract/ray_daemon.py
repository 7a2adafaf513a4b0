"""A process with a runtime of its own, for tests that kill it: `python -m tests.contract.ray_daemon HOME JSON`.

The JSON is changed settings of `ray`. Prints one line of JSON once its hosts serve, then runs until its input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from actors.ray_runtime import RayRuntime
from tests.contract.conftest import scripted_settings, turn


async def main(home: Path, ray: dict[str, Any]) -> None:
    # As many as the workers that Ray starts in advance: it gives the idle ones up only after a while.
    settings = scripted_settings(home, ray=ray, scripted={"replicas": 2})
    runtime = RayRuntime(settings, home / "registry")
    await runtime.start()
    answer = await runtime.call("scripted", turn("hello"), 20.0)
    health = [asdict(host) for host in await runtime.health()]
    sys.stdout.write(json.dumps({"health": health, "model": answer.model}) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await runtime.stop(1.0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
