"""A task in the background ends when it is told to, whatever it was waiting for."""

from __future__ import annotations

import asyncio

import pytest

from app.db.background import end


async def test_a_loop_that_takes_the_first_cancel_for_a_timeout_ends_all_the_same() -> None:
    swallowed = asyncio.Event()

    async def loop() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if swallowed.is_set():
                    raise
                swallowed.set()

    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    await end(task)
    assert task.cancelled()
    assert swallowed.is_set()


async def test_what_a_task_had_failed_with_is_raised() -> None:
    async def fail() -> None:
        raise OSError("away")

    task = asyncio.create_task(fail())
    await asyncio.wait({task})
    with pytest.raises(OSError, match="away"):
        await end(task)
