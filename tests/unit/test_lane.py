import asyncio
from threading import Event

import pytest

from actors.lane import Lane, LaneClosed


@pytest.fixture
def lane() -> Lane:
    return Lane("test")


async def test_runs_jobs_in_order(lane: Lane) -> None:
    done: list[int] = []
    await asyncio.gather(*(lane.run(done.append, number) for number in range(100)))
    assert done == list(range(100))


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (ValueError("bad"), ValueError),
        (MemoryError(), MemoryError),
        (SystemExit(1), RuntimeError),
        (KeyboardInterrupt(), RuntimeError),
        (StopIteration(), RuntimeError),
    ],
)
async def test_whatever_a_job_raises_reaches_the_caller_and_the_lane_lives(
    lane: Lane, error: BaseException, seen: type[Exception]
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(seen):
        await lane.run(fail)
    assert await lane.run(str, 1) == "1"


async def test_a_closed_lane_ends_what_it_has_and_refuses_more(lane: Lane) -> None:
    started, go_on = Event(), Event()

    def wait() -> str:
        started.set()
        go_on.wait()
        return "done"

    running = lane.run(wait)
    started.wait()
    lane.close()
    with pytest.raises(LaneClosed):
        lane.run(str, 1)
    go_on.set()
    assert await running == "done"


def test_a_result_for_a_loop_that_has_closed_is_dropped(lane: Lane) -> None:
    go_on = Event()

    async def start() -> None:
        lane.run(go_on.wait)

    asyncio.run(start())
    go_on.set()

    async def run() -> str:
        return await lane.run(str, 1)

    assert asyncio.run(run()) == "1"
