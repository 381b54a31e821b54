"""Many applications in one request: lines in, lines out, in order, as they come.

What is read is never held up by what is not yet written: a caller that sends its whole body before it reads an answer
must not lock up with us. So answers may wait in memory, as many as a batch has lines at most, while at most a window
of applications is being decided.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator

import orjson

from app.api.error_map import problem_for
from app.api.problems import Problem, ProblemType
from app.api.runtime import Runtime
from app.identities.principal import OriginatorId, Principal

WINDOW = 128
"""Applications of one batch that are being decided at the same time: two full flushes."""


class BatchRun:
    """One batch of one caller."""

    def __init__(self, gate: Runtime, caller: Principal, originator_id: OriginatorId, request_id: str) -> None:
        self._gate = gate
        self._caller = caller
        self._originator_id = originator_id
        self._request_id = request_id
        self._window = asyncio.Semaphore(WINDOW)
        self._answers: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue()

    async def answers(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """One line for each line of the body: `{"line", "status", "decision"}` or `{"line", "status", "problem"}`."""
        reader = asyncio.create_task(self._read(chunks))
        try:
            while (answer := await self._answers.get()) is not None:
                yield await answer
            await reader
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader

    async def _read(self, chunks: AsyncIterable[bytes]) -> None:
        settings = self._gate.settings
        number = 0
        try:
            async for line in _lines(chunks, settings.body_limit_bytes):
                number += 1
                if number > settings.batch_line_limit:
                    detail = f"A batch may have at most {settings.batch_line_limit} lines; what follows was not read."
                    await self._put(number, None, Problem(ProblemType.BODY_TOO_LARGE, detail))
                    return
                if line == b"":
                    continue
                await self._window.acquire()
                await self._put(number, line, None)
        finally:
            self._answers.put_nowait(None)

    async def _put(self, number: int, line: bytes | None, problem: Problem | None) -> None:
        while (wait_seconds := self._gate.limiter.take(self._caller.subject, self._caller.rate_limit_per_second)) > 0:  # noqa: ASYNC110 - what it waits for is time
            await asyncio.sleep(wait_seconds)
        self._answers.put_nowait(asyncio.create_task(self._answer(number, line, problem)))

    async def _answer(self, number: int, line: bytes | None, problem: Problem | None) -> bytes:
        if problem is None:
            try:
                if line is None:
                    limit = self._gate.settings.body_limit_bytes
                    raise Problem(ProblemType.BODY_TOO_LARGE, f"A line may have at most {limit} bytes.")
                answer = await self._gate.desk.decide(self._originator_id, line)
            except Exception as error:
                problem = problem_for(error, self._request_id)
            else:
                return b'{"line":%d,"status":200,"decision":%b}\n' % (number, answer.body)
            finally:
                self._window.release()
        document = {"line": number, "status": problem.status, "problem": problem.document(self._request_id)}
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


async def _lines(chunks: AsyncIterable[bytes], limit_bytes: int) -> AsyncIterator[bytes | None]:
    """The lines of a body, stripped; None for one that is longer than the limit, whose rest is passed over."""
    rest, too_long = b"", False
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield None if too_long or len(line) > limit_bytes else line.strip()
            too_long = False
        if len(rest) > limit_bytes:
            rest, too_long = b"", True
    if too_long or rest.strip():
        yield None if too_long or len(rest) > limit_bytes else rest.strip()
