"""The examples of `docs/examples` fit together, and decide invented applications as their comments say."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.cli.importing.mapper import Mapper
from app.cli.importing.mapping import ImportMapping, parse_mapping
from app.cli.importing.sources import MappedColumn
from app.domain.channel import ChannelId, ChannelKind, ChannelState, Standing
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy
from app.domain.fields import FieldKind
from app.domain.intake import read_application
from app.domain.screening import screen
from app.domain.settlement import Decision, Facts, settle
from app.policies.document_text import parse_yaml
from app.screening.payload import PAYLOAD

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
BOOKS = ("moneylion", "creditas")
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def _policy(book: str) -> CompiledPolicy:
    return compile_policy(parse_yaml((EXAMPLES / f"{book}.policy.yaml").read_bytes()), version=1)


def _mapping(book: str) -> ImportMapping:
    return parse_mapping((EXAMPLES / f"{book}.mapping.yaml").read_text(encoding="utf-8"))


def _channels(book: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((EXAMPLES / f"{book}.channels.yaml").read_text(encoding="utf-8"))[
        "channels"
    ]
    return found


@pytest.mark.parametrize("book", BOOKS)
def test_channels_are_of_known_kinds_and_states_and_have_tiers_of_the_policy(book: str) -> None:
    policy = _policy(book)
    for channel in _channels(book):
        assert channel["kind"] in list(ChannelKind)
        assert channel["state"] in list(ChannelState)
        assert channel.get("tier", policy.document.default_tier) in policy.tiers


@pytest.mark.parametrize("book", BOOKS)
def test_the_mapping_makes_what_the_policy_declares(book: str) -> None:
    policy, mapping = _policy(book), _mapping(book)
    declared_unknown = {path.removeprefix("attributes.") for path in mapping.unknown if path.startswith("attributes.")}
    assert set(mapping.attributes) | declared_unknown == set(policy.attributes)
    for name, source in mapping.attributes.items():
        if isinstance(source, MappedColumn):
            assert policy.attributes[name].kind is FieldKind.CHOICE
            assert set(source.map.values()) == set(policy.attributes[name].choices)


def _decide(book: str, tier: str, row: dict[str, str | None]) -> Decision:
    policy = _policy(book)
    payload = PAYLOAD.validate_json(Mapper(_mapping(book)).application(row).body)
    standing = Standing(
        channel_id=ChannelId(1),
        code=payload["channel_code"],
        state=ChannelState.ACTIVE,
        served=True,
        tier=tier,
        rules_tier=tier,
        ceiling_tier=tier,
    )
    return settle(screen(policy, standing, read_application(payload, policy), NOW), Facts())


LEAD: dict[str, str | None] = {
    "id": "9000001",
    "channel": "search",
    "landing_page_product": "AutoRefinancing",
    "age": "41",
    "monthly_income": "6200",
    "collateral_value": "52000",
    "loan_amount": "12000",
    "state": "SP",
    "collateral_debt": "0",
    "verified_restriction": "0",
    "dishonored_checks": "0",
    "expired_debts": "0",
    "banking_debts": "0",
    "commercial_debts": "0",
    "protests": "0",
    "monthly_payment": "511.20",
    "auto_year": "2013",
}


@pytest.mark.parametrize("tier", ["prime", "general", "risk"])
def test_a_sound_lead_is_accepted_in_every_tier(tier: str) -> None:
    assert _decide("creditas", tier, LEAD).outcome == "accept"


@pytest.mark.parametrize("tier", ["prime", "general", "risk"])
@pytest.mark.parametrize("income", ["", "0", "0.01", "3", "499.99", "50000.01", "987654", "40004000"])
def test_an_income_that_cannot_be_right_ends_as_an_escalation_that_says_so(tier: str, income: str) -> None:
    decision = _decide("creditas", tier, {**LEAD, "monthly_income": income})
    assert decision.outcome == "escalate"
    assert {"IN04", "IN05"} & {reason.code for reason in decision.reasons}
    assert "Unable to verify income" in {reason.notice.en for reason in decision.reasons}


@pytest.mark.parametrize(
    ("change", "outcome", "code"),
    [
        ({"verified_restriction": ""}, "escalate", "BU10"),
        ({"verified_restriction": "1"}, "reject", "BU10"),
        ({"collateral_debt": ""}, "escalate", "LV01"),
        ({"collateral_debt": "31000"}, "escalate", "LV02"),
        ({"collateral_debt": "40000.01"}, "reject", "LV01"),
        ({"collateral_value": "0"}, "escalate", "CO01"),
        ({"collateral_value": "99999999"}, "escalate", "CO02"),
        ({"age": "116"}, "escalate", "AP04"),
        ({"age": "17"}, "reject", "AP02"),
        ({"auto_year": "0"}, "escalate", "CO03"),
        ({"loan_amount": "18720000"}, "reject", "LV01"),
        ({"loan_amount": "21000", "collateral_value": "90000"}, "escalate", "IN02"),
    ],
)
def test_what_a_lead_lacks_or_overstates_is_named(change: dict[str, str | None], outcome: str, code: str) -> None:
    decision = _decide("creditas", "general", {**LEAD, **change})
    assert decision.outcome == outcome
    assert code in {reason.code for reason in decision.reasons}


LOAN: dict[str, str | None] = {
    "loanId": "T-1",
    "source_row": "1",
    "customer_key": "P1",
    "channel": "lead",
    "applicationDate": "2016-05-04T10:11:12",
    "payFrequency": "B",
    "apr": "590",
    "state": "OH",
    "leadCost": "6",
    "nPaidOff": "0",
    "loanAmount": "450",
    "originallyScheduledPaymentAmount": "1100.10",
    "has_clarity_id": "1",
}


@pytest.mark.parametrize(
    ("tier", "change", "outcome", "codes"),
    [
        ("general", {}, "accept", set()),
        ("risk", {}, "escalate", {"BV01"}),
        ("risk", {"leadCost": "10"}, "accept", set()),
        ("risk", {"nPaidOff": "1"}, "accept", set()),
        ("risk", {"payFrequency": "I", "leadCost": "10"}, "reject", {"EM02"}),
        ("general", {"payFrequency": "I"}, "escalate", {"EM02"}),
        ("prime", {"payFrequency": "I"}, "accept", set()),
        ("general", {"payFrequency": ""}, "escalate", {"AP01", "EM02"}),
        ("general", {"has_clarity_id": "0"}, "escalate", {"FR10"}),
        ("prime", {"has_clarity_id": "0"}, "accept", set()),
        ("general", {"state": "NY"}, "reject", {"ST01"}),
        ("general", {"state": ""}, "escalate", {"AP01", "ST01"}),
        ("general", {"apr": ""}, "escalate", {"AP01", "AP03"}),
        ("general", {"apr": "700.001"}, "reject", {"AP03"}),
        ("general", {"originallyScheduledPaymentAmount": "0"}, "escalate", {"AP01"}),
        ("general", {"loanAmount": "1200"}, "escalate", {"IN03"}),
    ],
)
def test_a_loan_is_decided_by_the_rules_of_its_tier(
    tier: str, change: dict[str, str | None], outcome: str, codes: set[str]
) -> None:
    decision = _decide("moneylion", tier, {**LOAN, **change})
    assert decision.outcome == outcome
    assert {reason.code for reason in decision.reasons} == codes
