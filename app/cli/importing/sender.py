"""Sends requests to the gate and waits until each has an answer that will stay: a decision, or a refusal.

What passes by itself (no connection, 429, 502, 503, 504) is repeated, with the pause that the service asks for.
Decisions are idempotent, so that repeating one is always safe.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeAlias

import httpx

from app.cli.errors import CommandError
from app.cli.importing.mapper import Application, RowProblem

DECISIONS_PATH, BATCH_PATH = "/v1/decisions", "/v1/decisions/batch"

_PASSING = frozenset({429, 502, 503, 504})
_WRONG_CALL = frozenset({401, 403, 404, 405})
_ROW_ATTEMPTS = 4
"""How often a row may end in a 500 or an answer that is not one before it is given up."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS, _LONGEST_REQUESTED_SECONDS = 0.2, 10.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A row with its decision."""

    channel_code: str
    outcome: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A row that the service does not decide. `kind` is the problem's name, such as unknown-channel."""

    kind: str
    status: int
    problems: tuple[RowProblem, ...]

    @property
    def failed(self) -> bool:
        """Whether the service is to blame, and not the row."""
        return self.status >= HTTPStatus.INTERNAL_SERVER_ERROR


Answer: TypeAlias = Decided | Refused


class UnavailableError(CommandError):
    """The service has not answered for longer than the importer is willing to wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Again:
    """A row or request to repeat: after the pause that the service named, if it did."""

    why: str
    pause_seconds: float | None = None
    counts: bool = False
    """Whether this was the row's own failure, of which there may be only a few."""


class Sender:
    """Sends rows one by one, or many in one request; gives up after `patience_seconds` without any answer."""

    def __init__(self, clients: Iterable[httpx.AsyncClient], *, patience_seconds: float) -> None:
        """One request at a time goes through each client.

        A client of one connection is quick; a shared pool looks at all of its connections for each request.
        """
        self._idle: asyncio.Queue[httpx.AsyncClient] = asyncio.Queue()
        for client in clients:
            self._idle.put_nowait(client)
        self._patience_seconds = patience_seconds

    async def send(self, applications: Sequence[Application], *, batch: bool) -> list[Answer]:
        """The answer of each application, in order.

        Raises:
            UnavailableError: where the service stays away.
            CommandError: where the call itself is wrong: the key, the address.
        """
        answers: list[Answer | None] = [None] * len(applications)
        own_failures = [0] * len(applications)
        pause, heard_at = _FIRST_PAUSE_SECONDS, time.monotonic()
        while open_rows := [position for position, answer in enumerate(answers) if answer is None]:
            found = await self._once([applications[position] for position in open_rows], batch=batch)
            again: list[_Again] = []
            for position, result in zip(open_rows, found, strict=True):
                if not isinstance(result, _Again):
                    answers[position] = result
                    continue
                own_failures[position] += result.counts
                if own_failures[position] < _ROW_ATTEMPTS:
                    again.append(result)
                else:
                    answers[position] = _given_up(result)
            if not again:
                break
            if len(again) < len(open_rows):
                pause, heard_at = _FIRST_PAUSE_SECONDS, time.monotonic()
            elif (silent := time.monotonic() - heard_at) >= self._patience_seconds:
                raise UnavailableError(f"nothing got through for {silent:.0f} s: {again[-1].why}")
            await asyncio.sleep(_wait(again[-1], pause))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        return [answer for answer in answers if answer is not None]

    async def _once(self, applications: Sequence[Application], *, batch: bool) -> Sequence[Answer | _Again]:
        path = BATCH_PATH if batch else DECISIONS_PATH
        content = b"\n".join(application.body for application in applications)
        media_type = "application/x-ndjson" if batch else "application/json"
        client = await self._idle.get()
        try:
            response = await client.post(path, content=content, headers={"Content-Type": media_type})
        except httpx.TransportError as error:
            return [_Again(why=type(error).__name__)] * len(applications)
        finally:
            self._idle.put_nowait(client)
        status = response.status_code
        if status in _WRONG_CALL or status in range(300, 400):
            raise CommandError(f"{path} answered {status} {_kind(_json(response.content))}".rstrip())
        if batch and status == HTTPStatus.OK:
            return _lines(response.content, len(applications))
        result = _result(status, _json(response.content), response.headers.get("Retry-After"))
        if batch and isinstance(result, Refused):
            raise CommandError(f"{path} answered {status} {result.kind}")
        return [result] * len(applications)


def _given_up(again: _Again) -> Refused:
    problem = RowProblem(detail=f"{again.why}, {_ROW_ATTEMPTS} times")
    return Refused(kind="internal-error", status=HTTPStatus.INTERNAL_SERVER_ERROR, problems=(problem,))


def _wait(again: _Again, pause: float) -> float:
    """Seconds: what the service asked for, else the growing pause with a random part, so that senders do not march."""
    if again.pause_seconds is not None:
        return min(again.pause_seconds, _LONGEST_REQUESTED_SECONDS)
    return pause * random.uniform(0.5, 1)  # noqa: S311 (spreads load, guards nothing)


def _lines(content: bytes, count: int) -> list[Answer | _Again]:
    """The answers of a batch. A line that the service did not come to is one to repeat."""
    results: list[Answer | _Again] = [_Again(why="the batch was cut off")] * count
    for line in content.splitlines():
        document = _json(line)
        number, status = document.get("line"), document.get("status")
        if isinstance(number, int) and isinstance(status, int) and 1 <= number <= count:
            results[number - 1] = _result(status, document.get("decision") or document.get("problem") or {}, None)
    return results


def _result(status: int, document: Mapping[str, Any], retry_after: str | None) -> Answer | _Again:
    if status == HTTPStatus.OK:
        try:
            return _decided(document)
        except (KeyError, TypeError):
            return _Again(why="200 without a decision", counts=True)
    if status in _PASSING:
        return _Again(why=f"{status} {_kind(document)}".rstrip(), pause_seconds=_pause(retry_after))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _Again(why=f"{status} {_kind(document)}".rstrip(), counts=True)
    return Refused(kind=_kind(document) or str(status), status=status, problems=_problems(document))


def _decided(document: Mapping[str, Any]) -> Decided:
    return Decided(
        channel_code=str(document["channel_code"]),
        outcome=str(document["outcome"]),
        reasons=tuple(f"{reason['code'] or 'not disclosed'}: {reason['text']['en']}" for reason in document["reasons"]),
    )


def _problems(document: Mapping[str, Any]) -> tuple[RowProblem, ...]:
    """What the problem document points at. It never repeats a value, so neither does the rejects file."""
    errors = document.get("errors")
    if isinstance(errors, list) and errors:
        return tuple(
            RowProblem(pointer=str(each.get("pointer", "")), detail=str(each.get("detail", "")))
            for each in errors
            if isinstance(each, Mapping)
        )
    return (RowProblem(detail=str(document.get("detail") or document.get("title") or "refused")),)


def _kind(document: Mapping[str, Any]) -> str:
    return str(document.get("type", "")).rpartition(":")[2]


def _pause(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after is not None and retry_after.isascii() and retry_after.isdigit() else None


def _json(content: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        return {}
    return document if isinstance(document, Mapping) else {}
