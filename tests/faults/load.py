"""The origination system of a fault run: sends, asks again until it is answered, and remembers every answer."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise

import httpx

from tests.support.applications import application

_PAUSE_SECONDS = 0.02
_GARBAGE = (b"", b"{", b'{"amount": 1e999}', b"\xff\xfe", b'{"a":' * 2_000, b"null", b'{"application_id": "\\u0000"}')


@dataclass(slots=True)
class Ledger:
    """What was sent, what was acknowledged, and when."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, bytes] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    acknowledged_at: list[float] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def gaps(self, since: float, until: float) -> list[tuple[float, float]]:
        """The times without an acknowledgement of any client, the longest first: seconds since, how long."""
        times = [since, *(each for each in self.acknowledged_at if since <= each <= until), until]
        return sorted(((a - since, b - a) for a, b in pairwise(times)), key=lambda gap: -gap[1])


class Load:
    """Clients in a closed loop. Each settles its application before it sends another, as an origination system does."""

    def __init__(
        self, replicas: Sequence[httpx.AsyncClient], ledger: Ledger, *, seed: int, channel: str, clients: int
    ) -> None:
        """`replicas` are asked at random; one that does not answer is passed over for the next attempt."""
        self._replicas = replicas
        self._ledger = ledger
        self._random = random.Random(seed)
        self._channel = channel
        self._numbers = count()
        self._stopping = False
        self._clients = clients

    async def run(self) -> None:
        """Send until `stop`, and then until everything that was begun is acknowledged."""
        await asyncio.gather(*(self._send_on() for _ in range(self._clients)))

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping = True

    async def _send_on(self) -> None:
        while not self._stopping:
            dice = self._random.random()
            if dice < 0.08 and self._ledger.answers:
                await self._settle(self._random.choice(list(self._ledger.answers)))
            elif dice < 0.12:
                await self._garbage()
            elif dice < 0.20:
                key = self._new()
                await asyncio.gather(*(self._settle(key) for _ in range(3)))
            elif dice < 0.28:
                key = self._new()
                await self._settle(key)
                await self._settle(self._amended(key))
            else:
                await self._settle(self._new())

    def _new(self) -> str:
        number = next(self._numbers)
        return self._keep(f"F-{number}", 1, 1_000_000 + 10_000 * self._random.randrange(100))

    def _amended(self, key: str) -> str:
        return self._keep(key.rpartition("/")[0], 2, 2_000_000)

    def _keep(self, application_id: str, revision: int, amount: int) -> str:
        """Remember a body under application and revision; half of all come through the channel with the budget."""
        own = application_id[-1] in "02468"
        body = application(application_id, revision=revision, amount=amount)
        if own:
            body["channel_code"] = self._channel
        key = f"{application_id}/{revision}"
        self._ledger.bodies[key] = json.dumps(body).encode()
        return key

    async def _settle(self, key: str) -> None:
        """Ask until there is an answer; one that differs from an earlier one is wrong."""
        ledger = self._ledger
        while True:
            ledger.requests += 1
            try:
                answer = await self._random.choice(self._replicas).post(
                    "/v1/decisions", content=ledger.bodies[key], headers={"Content-Type": "application/json"}
                )
            except httpx.TransportError as error:
                ledger.refusals[type(error).__name__] += 1
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            if answer.status_code == 503:
                ledger.refusals["503"] += 1
                if "retry-after" not in answer.headers:
                    ledger.wrong.append(f"{key}: a 503 that does not say when to come again")
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            if answer.status_code != 200:
                ledger.wrong.append(f"{key}: {answer.status_code} {answer.text[:200]}")
                return
            ledger.acknowledged_at.append(time.monotonic())
            if ledger.answers.setdefault(key, answer.content) != answer.content:
                ledger.wrong.append(f"{key}: two answers")
            return

    async def _garbage(self) -> None:
        body = self._random.choice(_GARBAGE)
        self._ledger.requests += 1
        try:
            answer = await self._random.choice(self._replicas).post(
                "/v1/decisions", content=body, headers={"Content-Type": "application/json"}
            )
        except httpx.TransportError:
            return
        if answer.status_code not in {400, 413, 422, 503}:
            self._ledger.wrong.append(f"garbage: {answer.status_code}")
