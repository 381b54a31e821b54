"""How a service starts what-ifs: each a process of its own, at the lowest priority, that ends with the service."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

_INHERITED: Final = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
_END_SECONDS: Final = 5.0
_LIBRARIES: Final = ("numpy", "pyarrow")


class Launcher:
    """Starts runs and waits for their end. `on_end` hears the run's number once its process is gone, and its code."""

    def __init__(self, url: str, directory: Path | None, on_end: Callable[[int, int], Awaitable[None]]) -> None:
        self._url = url
        self._directory = directory
        self._on_end = on_end
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._watching: set[asyncio.Task[None]] = set()

    def lacks(self) -> str | None:
        """What is missing for what-ifs here; None where nothing is."""
        if self._directory is None:
            return "GATE_EXTRACT_DIRECTORY is not set"
        if any(importlib.util.find_spec(name) is None for name in _LIBRARIES):
            return "the extra `whatif` is not installed"
        return None

    async def start(self, run_id: int) -> None:
        """Start the process of a run that has been entered.

        Raises:
            OSError: where the system has no room for one more process.
        """
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment |= {"GOVERNANCE_DATABASE_URL": self._url, "GATE_EXTRACT_DIRECTORY": str(self._directory)}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "app.whatif",
            str(run_id),
            stdin=asyncio.subprocess.PIPE,  # closes with this process, whatever ends it
            stdout=asyncio.subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C in a terminal ends the worker, and the worker ends it
        )
        self._processes[run_id] = process
        task = asyncio.create_task(self._watch(run_id, process))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def stop(self) -> None:
        """Cancel what runs, and wait until it is gone."""
        for process in self._processes.values():
            if process.stdin is not None:
                process.stdin.close()
        if self._watching:
            await asyncio.wait(self._watching, timeout=_END_SECONDS)
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await asyncio.gather(*self._watching)

    async def _watch(self, run_id: int, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        self._processes.pop(run_id, None)
        await self._on_end(run_id, code)
