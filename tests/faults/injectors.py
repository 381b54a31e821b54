"""What can be broken. Each fault takes a ground, breaks it, waits, and puts it right again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import resource
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import httpx
import psutil

from app.policies.defaults import default_policy
from tests.faults.ground import SMALL_DISK_BYTES, Ground
from tests.support.cluster import eventually

Fault: TypeAlias = Callable[[Ground, random.Random], Awaitable[None]]


async def kill_worker(ground: Ground, dice: random.Random) -> None:
    """A worker dies in the middle of whatever it does; the parent starts another."""
    if worker := ground.worker(dice.randrange(99)):
        worker.kill()


async def pause_worker(ground: Ground, dice: random.Random) -> None:
    """A worker stands still, past its lease at times, and goes on with what it had in hand."""
    if worker := ground.worker(dice.randrange(99)):
        worker.suspend()
        await asyncio.sleep(dice.uniform(0.5, 12.0))
        if worker.is_running():
            worker.resume()


async def kill_postgres(ground: Ground, dice: random.Random) -> None:
    """Every process of the database dies at once; it is started again and recovers."""
    await asyncio.to_thread(ground.cluster.kill)
    await asyncio.sleep(dice.uniform(0.0, 3.0))
    await asyncio.to_thread(ground.cluster.revive)


async def freeze_postgres(ground: Ground, dice: random.Random) -> None:
    """The database neither answers nor closes."""
    with ground.cluster.frozen():
        await asyncio.sleep(dice.uniform(0.5, 4.0))


async def cut_connections(ground: Ground, _dice: random.Random) -> None:
    """Every connection to the database is reset, with whatever was under way in it."""
    ground.proxy.cut()


async def slow_connections(ground: Ground, dice: random.Random) -> None:
    """Each piece on the way to the database and back is late."""
    ground.proxy.delay_seconds = dice.uniform(0.02, 0.3)
    await asyncio.sleep(dice.uniform(1.0, 4.0))
    ground.proxy.delay_seconds = 0.0


async def dropped_packets(ground: Ground, dice: random.Random) -> None:
    """What is sent arrives nowhere, and no connection is closed."""
    ground.proxy.silent = True
    await asyncio.sleep(dice.uniform(0.5, 4.0))
    ground.proxy.silent = False


async def no_file_descriptors(ground: Ground, dice: random.Random) -> None:
    """A worker can open nothing any more: no connection, no file."""
    worker = ground.worker(dice.randrange(99))
    if worker is None:
        return
    try:
        before = worker.rlimit(psutil.RLIMIT_NOFILE)
        worker.rlimit(psutil.RLIMIT_NOFILE, (worker.num_fds(), before[1]))
        await asyncio.sleep(dice.uniform(1.0, 3.0))
        worker.rlimit(psutil.RLIMIT_NOFILE, before)
    except psutil.NoSuchProcess:
        return  # another fault took it


async def publish_storm(ground: Ground, dice: random.Random) -> None:
    """One policy after the other; each differs from the one before in a threshold that no application meets."""
    document = default_policy() | {"cases": []}
    rule = next(rule for rule in document["rules"] if rule["code"] == "BU03")
    headers = {"Content-Type": "application/json"}
    for _ in range(8):
        rule["thresholds"] = {"prime": 300 + dice.randrange(100), "general": 420, "risk": 500}
        try:
            await (
                ground.servers[0]
                .client("policy-author")
                .post("/v1/policies", content=json.dumps(document), headers=headers)
            )
        except httpx.TransportError:
            await asyncio.sleep(0.1)


async def rolling_restart(ground: Ground, _dice: random.Random) -> None:
    """One replica after the other ends in order and starts again, as a new version is rolled out."""
    for server in ground.servers:
        if server.is_running():
            await asyncio.to_thread(server.terminate, 60.0)
        await eventually(server.is_running)
        with contextlib.suppress(AssertionError):  # it ended once more, and is started once more
            await server.wait_ready()


async def full_disk(ground: Ground, dice: random.Random) -> None:
    """The file system of the database has no block left; PostgreSQL may go down with it and is started again."""
    filler = ground.folder / "filler"
    with filler.open("wb") as file:
        try:
            for _ in range(SMALL_DISK_BYTES // (1 << 20)):
                file.write(bytes(1 << 20))
                file.flush()
        except OSError:
            pass  # full, as intended
    await asyncio.sleep(dice.uniform(1.0, 3.0))
    filler.unlink()
    await asyncio.to_thread(ground.cluster.revive)


FAULTS: Mapping[str, Fault] = {
    each.__name__.replace("_", " "): each
    for each in (
        kill_worker,
        pause_worker,
        kill_postgres,
        freeze_postgres,
        cut_connections,
        slow_connections,
        dropped_packets,
        no_file_descriptors,
        publish_storm,
        rolling_restart,
        full_disk,
    )
}


def open_files_for_the_load() -> None:
    """The load opens a connection for each client; the faults must not find it without."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
