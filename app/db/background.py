"""How a task that follows the database in the background is ended."""

from __future__ import annotations

import asyncio

_AGAIN_SECONDS = 0.5


async def end(task: asyncio.Task[None]) -> None:
    """Cancel a task until it has ended. Raises what it failed with, if it had failed before.

    Once is not enough: a cancel that arrives in the same turn as a timeout of the task's own becomes that timeout, and
    a loop that survives timeouts goes on for ever.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_AGAIN_SECONDS)
    if not task.cancelled():
        task.result()
