"""Held decisions, decided again when their budgets have room.

Nothing but a budget kept them from being accepts. Each is screened again under what holds then, policy and channel
included, and what that comes to stands beside the decision, which stays as it was. Any number of workers may do it: a
claim keeps them apart, and the database ends each of them once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy.exc
import structlog
from pydantic import ValidationError
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.db.background import end
from app.domain.errors import DomainError
from app.domain.intake import read_application
from app.domain.reasons import NextAction
from app.domain.record import documents
from app.domain.screening import screen, stand
from app.domain.settlement import Facts
from app.observability import metrics
from app.rollout.keeper import NotReadyError, SnapshotKeeper
from app.rollout.snapshot import Snapshot
from app.screening.payload import PAYLOAD
from app.screening.settling import ExhaustedBudgets, facts_text, settle_expecting, told_facts

TICK_SECONDS = 2.0
_CLAIM_LIMIT = 50
_LEASE = timedelta(seconds=60)
"""How long a claimed one is this worker's, and so also how long one that is held again waits for its next turn."""
_LAPSE_LIMIT = 200
_MAX_ROUNDS = 5
"""How often one may meet other facts, or a change of policy, channel or budgets, in one turn."""

_CLAIM = text("SELECT * FROM gate.held_claim(:limit, :lease)")
_RESOLVE = text(
    "SELECT * FROM gate.held_resolve(:decision_id, :at, :policy_version, :channel_revision, :budget_revision, :outcome,"
    " :next_action, :reason_codes, :facts, :available, :budget_id, :units, :record, :response)"
)
_LAPSE = text("SELECT gate.held_lapse(:limit)")

_log = structlog.get_logger(__name__)


class HeldResult(StrEnum):
    """What a turn of a held decision has come to."""

    ACCEPTED = "accept"
    ESCALATED = "escalate"
    REJECTED = "reject"
    SUPERSEDED = "superseded"
    LAPSED = "lapsed"
    WAITING = "waiting"
    """Held again, or not decided this time: its next turn will tell."""


class HeldDesk:
    """Gives held decisions their turn, in the background of every worker."""

    def __init__(self, engine: AsyncEngine, keeper: SnapshotKeeper) -> None:
        # One statement each: the server must let go of the locks without waiting for this process.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._keeper = keeper
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="held decisions")

    async def stop(self) -> None:
        """Stop; what was claimed falls due again by itself."""
        if self._task is not None:
            await end(self._task)

    async def round(self, lease: timedelta = _LEASE) -> dict[HeldResult, int]:
        """Give a turn to whatever has room, and end what has waited its time out; how many came to what.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError: where the database is away; the next round tries again.
            NotReadyError: where this worker may not decide.
        """
        counts = dict.fromkeys(HeldResult, 0)
        async with self._engine.connect() as connection:
            while lapsed := (await connection.execute(_LAPSE, {"limit": _LAPSE_LIMIT})).scalar_one():
                counts[HeldResult.LAPSED] += lapsed
            while claimed := await self._claim(connection, lease):
                for row in claimed:
                    counts[await self._turn(connection, row)] += 1
        for result, count in counts.items():
            if count and result is not HeldResult.WAITING:
                metrics.HELD_CLOSED.labels(result.value).inc(count)
        return counts

    async def _claim(self, connection: AsyncConnection, lease: timedelta) -> list[RowMapping]:
        given = {"limit": _CLAIM_LIMIT, "lease": lease}
        return list((await connection.execute(_CLAIM, given)).mappings())

    async def _turn(self, connection: AsyncConnection, row: RowMapping) -> HeldResult:
        told: Facts | None = None
        for _ in range(_MAX_ROUNDS):
            snapshot = self._keeper.current()
            try:
                wanted = _decided_again(snapshot, row["decision_id"], row["input"], told)
            except (DomainError, ValidationError) as error:
                # The policy of today cannot decide it: it waits for one that can, or lapses.
                _log.warning("held_decision_undecidable", exc_info=error)
                return HeldResult.WAITING
            if wanted["next_action"] == NextAction.HELD:
                return HeldResult.WAITING
            answer = (await connection.execute(_RESOLVE, wanted)).one()
            match answer.status:
                case "resolved":
                    return HeldResult(wanted["outcome"])
                case "superseded":
                    return HeldResult.SUPERSEDED
                case "unsettled":
                    told = told_facts(answer.facts)
                case "stale":
                    await self._keeper.refresh(TICK_SECONDS)
                case _:
                    return HeldResult.WAITING
        return HeldResult.WAITING

    async def _run(self) -> None:
        while True:
            try:
                await self.round()
            except (OSError, TimeoutError, sqlalchemy.exc.SQLAlchemyError) as error:
                _log.warning("held_decisions_failed", exc_info=error)
            except NotReadyError:
                pass  # the keeper says why
            await asyncio.sleep(TICK_SECONDS)


def _decided_again(snapshot: Snapshot, decision_id: UUID, stored: bytes, told: Facts | None) -> Mapping[str, Any]:
    """What the stored application comes to now, as the arguments of `gate.held_resolve`.

    Raises:
        DomainError: where the policy cannot decide it, or the channel is not on the list any more.
        pydantic.ValidationError: where the schema has become stricter since.
    """
    policy = snapshot.policy
    assert policy is not None
    at = datetime.now(UTC)
    payload = PAYLOAD.validate_json(stored)
    listed = snapshot.channels.get(payload["channel_code"])
    if listed is None or not listed.channel.listed(at):
        raise DomainError("the channel code is not on the named list")
    application = read_application(payload, policy)
    screening = screen(policy, stand(policy, listed.channel, application, at), application, at)
    decision, lines = settle_expecting(screening, told, snapshot.budgets, ExhaustedBudgets())
    written = documents(decision, decision_id=str(decision_id))
    return {
        "decision_id": decision_id,
        "at": at,
        "policy_version": policy.version,
        "channel_revision": listed.revision,
        "budget_revision": snapshot.budgets.revision,
        "outcome": decision.outcome.value,
        "next_action": decision.next_action.value,
        "reason_codes": [reason.code for reason in decision.reasons],
        "facts": facts_text(decision.facts),
        "available": decision.facts.budget_available,
        "budget_id": [line.budget_id for line in lines],
        "units": [line.units for line in lines],
        "record": orjson.dumps(written.record, option=orjson.OPT_SORT_KEYS),
        "response": orjson.dumps(written.response, option=orjson.OPT_SORT_KEYS),
    }
