"""Examples of decisions for the OpenAPI document: decided by the default policy, so that they cannot go stale."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from app.api.examples import APPLICATION
from app.domain.channel import Channel, ChannelId, ChannelKind, ChannelState, TierAssignment
from app.domain.compiler import compile_policy
from app.domain.intake import read_application
from app.domain.record import ENGINE, record_document, response_document
from app.domain.screening import screen, stand
from app.domain.settlement import settle
from app.journal.cursor import Position, encode_cursor
from app.journal.reader import DecisionFilter, DecisionSummary, StoredDecision
from app.policies.defaults import default_policy
from app.screening.explanation import Language, explain
from app.screening.replay import document_bytes
from app.screening.stored_views import detail_document, summary_document, tier_evidence

_AT = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
_ID = UUID("01a20d00-0000-7000-8000-000000000000")
_POLICY = compile_policy(default_policy(), version=1)


def _application() -> dict[str, Any]:
    """The typical application, from a weaker channel, with a short file, a lower score and a device that many share."""
    application = deepcopy(APPLICATION)
    application |= {"application_id": "A-1002", "channel_code": "broker-north", "amount": 3_000_000}
    application["bureau"] |= {"history_months": 8, "score": 650}
    application["device"]["ids_on_device_24h"] = 4
    return application


def _decided(payload: dict[str, Any], tier: str) -> StoredDecision:
    application = read_application(payload, _POLICY)
    began = _AT - timedelta(days=90)
    channel = Channel(
        channel_id=ChannelId(7),
        code=application.channel_code,
        kind=ChannelKind.INTERMEDIARY,
        state=ChannelState.ACTIVE,
        valid_from=began,
        assignments=(TierAssignment(tier=tier, valid_from=began),),
    )
    decision = settle(screen(_POLICY, stand(_POLICY, channel, application, _AT), application, _AT))
    input_ = orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)
    summary = DecisionSummary(
        decision_id=_ID,
        decided_at=_AT,
        retention_class=_POLICY.products[application.product].retention_class,
        originator_id=1,
        originator_code="demo",
        application_id=application.application_id,
        revision=application.revision,
        channel_code=channel.code,
        sub_id=None,
        product=application.product,
        jurisdiction=application.jurisdiction,
        tier=tier,
        policy_version=1,
        engine=ENGINE,
        outcome=decision.outcome,
        next_action=decision.next_action,
        amount=application.amount,
        currency=application.currency,
        term_months=application.term_months,
        ceiling_amount=decision.screening.ceiling.amount,
        offered_amount=None if decision.counter_offer is None else decision.counter_offer.amount,
        reason_codes=tuple(reason.code for reason in decision.reasons),
        erased_at=None,
    )
    return StoredDecision(
        summary=summary,
        input=input_,
        record=document_bytes(record_document(decision, decision_id=str(_ID))),
        response=document_bytes(response_document(decision, decision_id=str(_ID))),
    )


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = orjson.loads(orjson.dumps(document))
    return plain


_STORED = _decided(_application(), "risk")
_NEXT = encode_cursor(Position(decided_before=_AT, below=_ID), DecisionFilter(originator_id=1).question())

ACCEPTED: dict[str, Any] = orjson.loads(_decided(APPLICATION, "prime").response)
DECISION: dict[str, Any] = orjson.loads(_STORED.response)
DETAIL = _plain(detail_document(_STORED, tier_evidence(_POLICY, _STORED)))
PAGE = {"items": [DECISION], "next_cursor": _NEXT}
SUMMARY_PAGE = {"items": [_plain(summary_document(_STORED.summary))], "next_cursor": None}
EXPLANATION = _plain(explain(_STORED, Language.ENGLISH, whole=False, tier_name=_POLICY.tiers["risk"].name))
WHOLE_EXPLANATION = _plain(explain(_STORED, Language.CHINESE, whole=True, tier_name=_POLICY.tiers["risk"].name))
