"""The hot path, whole: one request in, one durable decision out."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine
from uuid_utils import uuid7

from app.domain.application import LoanApplication
from app.domain.budget import BudgetBook, Line
from app.domain.channel import Standing
from app.domain.compiled import CompiledPolicy
from app.domain.errors import DomainError, UnknownChannelError
from app.domain.intake import read_application
from app.domain.record import ENGINE, Documents, documents
from app.domain.screening import Screening, screen, stand
from app.domain.settlement import Decision, Facts
from app.journal.entry import FlushResult, FlushStatus, JournalEntry, JournalUnavailableError
from app.journal.stored import stored_response
from app.journal.writer import JournalWriter
from app.observability import metrics
from app.rollout.keeper import SnapshotKeeper
from app.rollout.snapshot import ListedChannel
from app.screening.payload import ApplicationPayload, read_payload
from app.screening.request import ReceivedRequest, receive
from app.screening.settling import ExhaustedBudgets, facts_text, settle_expecting, told_facts

_MAX_ROUNDS = 8
"""How often one request may meet a change of policy or channel before it is answered with a 503."""
_MAX_SETTLEMENTS = 256
"""How often others may change the facts of one request between two flushes; each time, one of them gets its answer."""


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


class _Case:
    """One request on its way to a decision; each step adds what it found out."""

    __slots__ = (
        "application",
        "at",
        "body",
        "budgets",
        "decision",
        "decision_id",
        "documents",
        "entry",
        "lines",
        "listed",
        "originator_id",
        "payload",
        "policy",
        "record",
        "request",
        "response",
        "screening",
        "standing",
        "told",
        "waiter",
    )
    application: LoanApplication
    at: datetime
    budgets: BudgetBook
    decision: Decision
    decision_id: str
    documents: Documents
    entry: JournalEntry
    lines: tuple[Line, ...]
    listed: ListedChannel
    payload: ApplicationPayload
    policy: CompiledPolicy
    record: bytes
    request: ReceivedRequest
    response: bytes
    screening: Screening
    standing: Standing
    told: Facts | None
    waiter: asyncio.Future[FlushResult]

    def __init__(self, originator_id: int, body: bytes) -> None:
        self.originator_id = originator_id
        self.body = body
        self.told = None


class DecisionDesk:
    """Decides applications: validates, screens against the current snapshot, and answers once the log has committed.

    What arrives in one turn of the event loop goes through each step together: code that has just run for one case
    runs for the next from the processor's caches, in half the time (docs/benchmarks.md). Nothing waits for it.
    """

    def __init__(
        self,
        *,
        keeper: SnapshotKeeper,
        writer: JournalWriter,
        read_engine: AsyncEngine,
        deadline_seconds: float,
        observe: Callable[[JournalEntry], None] | None = None,
    ) -> None:
        """`observe` is told of each decision that has just become durable; it must be quick and not raise."""
        self._keeper = keeper
        self._writer = writer
        self._read_engine = read_engine
        self._deadline_seconds = deadline_seconds
        self._observe = observe
        self._arrived: list[_Case] = []
        self._exhausted = ExhaustedBudgets()
        self._steps: tuple[Callable[[_Case], None], ...] = (
            *(_validate, _receive, self._place, _read, _stand, _screen),
            *(self._settle, _write_down, _encode, _compose),
            self._enter,
        )

    async def decide(self, originator_id: int, body: bytes) -> Answer:  # noqa: PLR0912 - one branch for each status
        """Decide the application in `body`, once.

        Raises:
            pydantic.ValidationError: where the body does not fit the schema.
            DomainError: where the policy cannot decide it: unknown channel, consent missing, undeclared attribute.
            ApplicationConflictError, RevisionSupersededError, UnstorableError: see there.
            JournalUnavailableError, NotReadyError: nothing is known to be stored; repeat the same request.
        """
        started = time.perf_counter()
        case = _Case(originator_id, body)
        rounds = settlements = 0
        while rounds < _MAX_ROUNDS and settlements < _MAX_SETTLEMENTS:
            try:
                status, response = await self._submit(case)
            except DomainError:
                # Today's policy cannot decide it; the retry of a request that was decided gets its answer all the same.
                key = (originator_id, case.payload["application_id"], case.payload.get("revision", 1))
                if not self._writer.available:
                    raise JournalUnavailableError("the decision log is away") from None
                stored = await stored_response(self._read_engine, key, case.request.fingerprint, self._deadline_seconds)
                if stored is None:
                    raise
                metrics.REPLAYS.inc()
                return Answer(stored, replayed=True)
            match status:
                case FlushStatus.WRITTEN:
                    assert response is not None
                    if response is case.entry.response:
                        _count(case.entry, time.perf_counter() - started)
                        if self._observe is not None:
                            self._observe(case.entry)
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
                    rounds += 1
                    metrics.record_flush_failure("stale")
                    await self._keeper.refresh(self._deadline_seconds)
                case FlushStatus.UNSETTLED:
                    assert response is not None
                    settlements += 1
                    self._tell(case, response)
        raise JournalUnavailableError("policy or facts change faster than this application can be decided")

    def _submit(self, case: _Case) -> asyncio.Future[FlushResult]:
        """Have the case decided at the end of this turn of the event loop; the future gives what the log says of it."""
        loop = asyncio.get_running_loop()
        case.waiter = loop.create_future()
        if not self._arrived:
            loop.call_soon(self._decide_arrived)
        self._arrived.append(case)
        return case.waiter

    def _decide_arrived(self) -> None:
        """Take every case that has arrived through all steps; what a step raises ends that case alone."""
        cases, self._arrived = self._arrived, []
        for step in self._steps:
            going = []
            for case in cases:
                try:
                    step(case)
                except Exception as error:
                    if not case.waiter.done():
                        case.waiter.set_exception(error)
                else:
                    going.append(case)
            cases = going

    def _place(self, case: _Case) -> None:
        """Under which snapshot, when, by what id, and whose channel."""
        snapshot = self._keeper.current()
        assert snapshot.policy is not None
        case.policy, case.budgets = snapshot.policy, snapshot.budgets
        case.at, case.decision_id = datetime.now(UTC), str(uuid7())
        listed = snapshot.channels.get(case.payload["channel_code"])
        if listed is None or not listed.channel.listed(case.at):
            metrics.UNKNOWN_CHANNEL.inc()
            raise UnknownChannelError("the channel code is not on the named list")
        case.listed = listed

    def _tell(self, case: _Case, document: bytes) -> None:
        """What the flush found instead of what was expected: the next settlement rests on it."""
        case.told = told_facts(document)
        if case.told.budget_available is False:
            self._exhausted.note(case.lines)

    def _settle(self, case: _Case) -> None:
        case.decision, case.lines = settle_expecting(case.screening, case.told, case.budgets, self._exhausted)

    def _enter(self, case: _Case) -> None:
        """Into the log."""
        self._writer.append(case.entry, case.waiter, first=case.told is not None)


def _validate(case: _Case) -> None:
    case.payload = read_payload(case.body)


def _receive(case: _Case) -> None:
    case.request = receive(case.body)


def _read(case: _Case) -> None:
    case.application = read_application(case.payload, case.policy)


def _stand(case: _Case) -> None:
    case.standing = stand(case.policy, case.listed.channel, case.application, case.at)


def _screen(case: _Case) -> None:
    case.screening = screen(case.policy, case.standing, case.application, case.at)


def _write_down(case: _Case) -> None:
    case.documents = documents(case.decision, decision_id=case.decision_id)


def _encode(case: _Case) -> None:
    case.record = orjson.dumps(case.documents.record, option=orjson.OPT_SORT_KEYS)
    case.response = orjson.dumps(case.documents.response, option=orjson.OPT_SORT_KEYS)


def _compose(case: _Case) -> None:
    """The decision as the log stores it."""
    application, standing, decision = case.application, case.standing, case.decision
    case.entry = JournalEntry(
        originator_id=case.originator_id,
        application_id=application.application_id,
        revision=application.revision,
        fingerprint=case.request.fingerprint,
        decision_id=case.decision_id,
        decided_at=case.at,
        retention_class=case.policy.products[application.product].retention_class,
        policy_version=case.policy.version,
        engine=ENGINE,
        channel_id=standing.channel_id,
        channel_revision=case.listed.revision,
        channel_code=standing.code,
        sub_id=case.payload.get("sub_id"),
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
        reason_codes=",".join([reason.code for reason in decision.reasons]),
        applicant_ref=application.applicant_ref,
        content_digest=hashlib.sha256(case.request.input + case.record).digest(),
        input=case.request.input,
        record=case.record,
        response=case.response,
        facts=facts_text(decision.facts),
        budget_revision=case.budgets.revision,
        budget_available=decision.facts.budget_available,
        budget_lines=case.lines,
    )


def _count(entry: JournalEntry, seconds: float) -> None:
    metrics.record_decision(
        channel=entry.channel_code,
        tier=entry.tier,
        outcome=entry.outcome,
        reason_codes=entry.reason_codes.split(",") if entry.reason_codes else (),
        seconds=seconds,
    )
