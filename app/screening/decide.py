"""The hot path, whole: one request in, one durable decision out."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine
from uuid_utils import uuid7

from app.domain.errors import DomainError, UnknownChannelError
from app.domain.intake import read_application
from app.domain.record import ENGINE, documents
from app.domain.screening import screen, stand
from app.domain.settlement import settle
from app.journal.entry import FlushStatus, JournalEntry, JournalUnavailableError
from app.journal.stored import stored_response
from app.journal.writer import JournalWriter
from app.observability import metrics
from app.rollout.keeper import SnapshotKeeper
from app.rollout.snapshot import Snapshot
from app.screening.payload import PAYLOAD
from app.screening.request import ReceivedRequest, receive

_MAX_ROUNDS = 8
"""How often one request may meet a change of policy or channel before it is answered with a 503."""


class ApplicationConflictError(Exception):
    """Another body was decided under the same application id and revision."""


class RevisionSupersededError(Exception):
    """A newer revision of the application has been decided."""


class UnstorableError(Exception):
    """The database refuses this application's values; it was set aside and no decision was made."""


class Answer(NamedTuple):
    """`body` is the stored response, byte for byte; `replayed` where an earlier request had made it."""

    body: bytes
    replayed: bool


class DecisionDesk:
    """Decides applications: validates, screens against the current snapshot, and answers once the log has committed."""

    def __init__(
        self, *, keeper: SnapshotKeeper, writer: JournalWriter, read_engine: AsyncEngine, deadline_seconds: float
    ) -> None:
        self._keeper = keeper
        self._writer = writer
        self._read_engine = read_engine
        self._deadline_seconds = deadline_seconds

    async def decide(self, originator_id: int, body: bytes) -> Answer:
        """Decide the application in `body`, once.

        Raises:
            pydantic.ValidationError: where the body does not fit the schema.
            DomainError: where the policy cannot decide it: unknown channel, consent missing, undeclared attribute.
            ApplicationConflictError, RevisionSupersededError, UnstorableError: see there.
            JournalUnavailableError, NotReadyError: nothing is known to be stored; repeat the same request.
        """
        started = time.perf_counter()
        payload = PAYLOAD.validate_json(body)
        request = receive(body)
        for _ in range(_MAX_ROUNDS):
            try:
                entry = _decide_under(self._keeper.current(), originator_id, payload, request)
            except DomainError:
                # Today's policy cannot decide it; the retry of a request that was decided gets its answer all the same.
                key = (originator_id, payload["application_id"], payload.get("revision", 1))
                stored = await stored_response(self._read_engine, key, request.fingerprint)
                if stored is None:
                    raise
                metrics.REPLAYS.inc()
                return Answer(stored, replayed=True)
            status, response = await self._writer.append(entry)
            match status:
                case FlushStatus.WRITTEN:
                    assert response is not None
                    if response is entry.response:
                        _count(entry, time.perf_counter() - started)
                        return Answer(response, replayed=False)
                    metrics.REPLAYS.inc()
                    return Answer(response, replayed=True)
                case FlushStatus.REPLAYED:
                    assert response is not None
                    metrics.REPLAYS.inc()
                    return Answer(response, replayed=True)
                case FlushStatus.CONFLICT:
                    metrics.CONFLICTS.inc()
                    raise ApplicationConflictError
                case FlushStatus.SUPERSEDED:
                    raise RevisionSupersededError
                case FlushStatus.POISON:
                    raise UnstorableError
                case FlushStatus.STALE:
                    metrics.record_flush_failure("stale")
                    await self._keeper.refresh(self._deadline_seconds)
        raise JournalUnavailableError("the policy changes faster than this application can be decided")


def _decide_under(
    snapshot: Snapshot, originator_id: int, payload: Mapping[str, Any], request: ReceivedRequest
) -> JournalEntry:
    """The decision under one snapshot, as the log stores it. Pure but for the clock and the decision's id."""
    policy = snapshot.policy
    assert policy is not None
    at, decision_id = datetime.now(UTC), str(uuid7())
    listed = snapshot.channels.get(payload["channel_code"])
    if listed is None or not listed.channel.listed(at):
        metrics.UNKNOWN_CHANNEL.inc()
        raise UnknownChannelError("the channel code is not on the named list")
    application = read_application(payload, policy)
    standing = stand(policy, listed.channel, application, at)
    decision = settle(screen(policy, standing, application, at))
    written = documents(decision, decision_id=decision_id)
    record = orjson.dumps(written.record, option=orjson.OPT_SORT_KEYS)
    response = orjson.dumps(written.response, option=orjson.OPT_SORT_KEYS)
    return JournalEntry(
        originator_id=originator_id,
        application_id=application.application_id,
        revision=application.revision,
        fingerprint=request.fingerprint,
        decision_id=decision_id,
        decided_at=at,
        retention_class=policy.products[application.product].retention_class,
        policy_version=policy.version,
        engine=ENGINE,
        channel_id=standing.channel_id,
        channel_revision=listed.revision,
        channel_code=standing.code,
        sub_id=payload.get("sub_id"),
        product=application.product,
        jurisdiction=application.jurisdiction,
        tier=standing.tier,
        outcome=decision.outcome,
        next_action=decision.next_action,
        amount=application.amount,
        currency=application.currency,
        term_months=application.term_months,
        ceiling_amount=decision.screening.ceiling.amount,
        offered_amount=None if decision.counter_offer is None else decision.counter_offer.amount,
        reason_codes=",".join(reason.code for reason in decision.reasons),
        applicant_ref=application.applicant_ref,
        content_digest=hashlib.sha256(request.input + record).digest(),
        input=request.input,
        record=record,
        response=response,
    )


def _count(entry: JournalEntry, seconds: float) -> None:
    metrics.record_decision(
        channel=entry.channel_code,
        tier=entry.tier,
        outcome=entry.outcome,
        reason_codes=entry.reason_codes.split(",") if entry.reason_codes else (),
        seconds=seconds,
    )
