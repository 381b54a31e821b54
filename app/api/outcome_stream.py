"""Many events in one request: lines in, lines out, in order, booked in groups as they come.

As with a batch of applications, what is read is never held up by what is not yet written.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator

import orjson

from app.api.error_map import problem_for
from app.api.problems import FieldError, Problem, ProblemType
from app.api.runtime import Runtime
from app.db.changes import RefusedChangeError
from app.identities.principal import OriginatorId, Principal
from app.observability import metrics
from app.outcomes.payload import EVENT, EventError, EventRow, row_of
from app.outcomes.store import Booked, book_events

GROUP = 200
"""Lines that are booked together at most; fewer where no more have come yet."""


async def book(
    gate: Runtime, originator_id: OriginatorId, caller: Principal, events: list[EventRow]
) -> tuple[Booked, ...]:
    """Book events for a caller's originator, all or none, and count them."""
    async with gate.read_engine.begin() as connection:
        booked = await book_events(connection, originator_id=originator_id, events=events, by=caller.subject)
    for event, each in zip(events, booked, strict=True):
        metrics.OUTCOME_EVENTS.labels(event.kind, each.result.value).inc()
    return booked


def event_problem(error: EventError, place: str = "") -> Problem:
    """The problem of an event whose fields do not fit its kind."""
    fault = FieldError(pointer=f"{place}{error.pointer}", detail=error.detail)
    return Problem(ProblemType.INVALID_REQUEST, errors=[fault])


class OutcomeStream:
    """One stream of one caller."""

    def __init__(self, gate: Runtime, caller: Principal, originator_id: OriginatorId, request_id: str) -> None:
        self._gate = gate
        self._caller = caller
        self._originator_id = originator_id
        self._request_id = request_id
        self._answers: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._number = 0
        self._group: list[tuple[int, EventRow | Problem]] = []

    async def answers(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """One line for each line of the body: `{"line", "status", "outcome"}` or `{"line", "status", "problem"}`."""
        reader = asyncio.create_task(self._read(chunks))
        try:
            while (answer := await self._answers.get()) is not None:
                yield answer
            await reader
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader

    async def _read(self, chunks: AsyncIterable[bytes]) -> None:
        limit = self._gate.settings.body_limit_bytes
        rest, too_long = b"", False
        try:
            async for chunk in chunks:
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    if not await self._take(None if too_long or len(line) > limit else line):
                        return
                    too_long = False
                if len(rest) > limit:
                    rest, too_long = b"", True
                await self._flush()
            if too_long or rest.strip():
                await self._take(None if too_long else rest)
            await self._flush()
        finally:
            self._answers.put_nowait(None)

    async def _take(self, line: bytes | None) -> bool:
        """Add a line to the group; None is one that is too long. False where the stream has ended before it."""
        self._number += 1
        settings = self._gate.settings
        if self._number > settings.batch_line_limit:
            detail = f"A stream may have at most {settings.batch_line_limit} lines; what follows was not read."
            self._group.append((self._number, Problem(ProblemType.BODY_TOO_LARGE, detail)))
            await self._flush()
            return False
        if line is not None and not line.strip():
            return True
        while (wait_seconds := self._gate.limiter.take(self._caller.subject, self._caller.rate_limit_per_second)) > 0:  # noqa: ASYNC110 - what it waits for is time
            await asyncio.sleep(wait_seconds)
        self._group.append((self._number, self._event(line)))
        if len(self._group) == GROUP:
            await self._flush()
        return True

    def _event(self, line: bytes | None) -> EventRow | Problem:
        if line is None:
            limit = self._gate.settings.body_limit_bytes
            return Problem(ProblemType.BODY_TOO_LARGE, f"A line may have at most {limit} bytes.")
        try:
            return row_of(EVENT.validate_json(line))
        except EventError as error:
            return event_problem(error)
        except Exception as error:
            return problem_for(error, self._request_id)

    async def _flush(self) -> None:
        group, self._group = self._group, []
        events = [event for _, event in group if isinstance(event, EventRow)]
        booked = iter(await self._booked(events) if events else ())
        for number, event in group:
            found = event if isinstance(event, Problem) else next(booked)
            self._answers.put_nowait(self._line(number, found))

    async def _booked(self, events: list[EventRow]) -> list[Booked | Problem]:
        try:
            return list(await book(self._gate, self._originator_id, self._caller, events))
        except RefusedChangeError as error:
            if len(events) == 1:
                return [problem_for(error, self._request_id)]
            return [found for event in events for found in await self._booked([event])]
        except Exception as error:
            return [problem_for(error, self._request_id)] * len(events)

    def _line(self, number: int, found: Booked | Problem) -> bytes:
        document: dict[str, object] = {"line": number}
        if isinstance(found, Problem):
            document |= {"status": found.status, "problem": found.document(self._request_id)}
        else:
            outcome = {"result": found.result, "application_status": found.status, "flags": found.flags}
            document |= {"status": 200, "outcome": outcome}
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
