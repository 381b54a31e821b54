"""What is read from a request, and what the policy refuses in it."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from app.domain.application import Unknown
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy
from app.domain.errors import ApplicationError, ConsentMissingError
from app.domain.intake import read_application
from app.policies.defaults import default_policy
from tests.domain.builders import AT, payload, policy, unknown


def with_attributes() -> CompiledPolicy:
    document = default_policy()
    document["jurisdictions"] = ["CN", "CN-SH"]
    document["attributes"] = [
        {"name": "pay_frequency", "kind": "choice", "choices": ["weekly", "monthly"]},
        {"name": "collateral", "kind": "money", "minimum": 100},
        {"name": "distance_km", "kind": "number", "scale": 1, "minimum": -10, "maximum": 1_000},
    ]
    return compile_policy(document)


def pointers(request: dict[str, Any], compiled: CompiledPolicy | None = None) -> list[str]:
    with pytest.raises(ApplicationError) as refused:
        read_application(request, compiled or policy())
    return [problem.pointer for problem in refused.value.problems]


def test_values_become_integers_at_their_scale() -> None:
    read = read_application(payload(all_in_apr_pct=Decimal("14.40")), policy())
    assert read.values["all_in_apr_pct"] == 1_440
    assert read.values["applicant.income_verification"] == 3
    assert read.values["applicant.birth_date"] == date(1990, 5, 20).toordinal()
    assert read.values["bureau.hit"] is True
    assert read.unknown == {"bureau.bankruptcy_months_ago": Unknown.NOT_FOUND}
    assert read.consent_at == datetime.fromisoformat("2026-01-15T07:59:00+00:00")


@pytest.mark.parametrize("apr", ["14.4", 14.4, Decimal("14.4"), "14.40"])
def test_a_decimal_is_the_same_in_every_form(apr: object) -> None:
    assert read_application(payload(all_in_apr_pct=apr), policy()).values["all_in_apr_pct"] == 1_440


def test_null_and_absent_are_unknown_alike() -> None:
    read = read_application(payload(bureau__score=None, device=None, business=None, attributes=None), policy())
    assert "bureau.score" not in read.values
    assert read.cause("bureau.score") is Unknown.NOT_REQUESTED
    assert read.revision == 1


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"currency": "USD"}, "/currency"),
        ({"product": "car_loan"}, "/product"),
        ({"term_months": 61}, "/term_months"),
        ({"amount": 99_999}, "/amount"),
        ({"all_in_apr_pct": "14.405"}, "/all_in_apr_pct"),
        ({"all_in_apr_pct": "1e1"}, "/all_in_apr_pct"),
        ({"bureau__score": 10_001}, "/bureau/score"),
        ({"bureau__score": True}, "/bureau/score"),
        ({"bureau__hit": "yes"}, "/bureau/hit"),
        ({"bureau__pulled_at": "2026-01-15"}, "/bureau/pulled_at"),
        ({"bureau__pulled_at": "9999-12-31T23:59:59+00:00"}, "/bureau/pulled_at"),
        ({"completed_at": datetime(2026, 1, 1)}, "/completed_at"),  # noqa: DTZ001  # naive on purpose
        ({"applicant__birth_date": "20.05.1990"}, "/applicant/birth_date"),
        ({"applicant__employment_type": "king"}, "/applicant/employment_type"),
        ({"purpose": "x" * 129}, "/purpose"),
        ({"attributes": {"a/b": 1}}, "/attributes/a~1b"),
        ({"unknown": {"bureau.skore": "not_found"}}, "/unknown/bureau.skore"),
        ({"unknown": {"bureau.score": "not_found"}}, "/unknown/bureau.score"),
        ({"unknown": {"bureau.pulled_at": "not_found"}}, "/unknown/bureau.pulled_at"),
        ({"unknown": {"bureau.bankruptcy_months_ago": "undefined"}}, "/unknown/bureau.bankruptcy_months_ago"),
    ],
)
def test_what_contradicts_the_policy_is_refused_by_its_pointer(changes: dict[str, object], pointer: str) -> None:
    assert pointers(payload(**changes)) == [pointer]


def test_every_fault_is_reported_and_no_value_is_repeated() -> None:
    request = payload(bureau__score=987_654, applicant__employment_type="secretly-a-spy", currency="XTS")
    with pytest.raises(ApplicationError) as refused:
        read_application(request, policy())
    assert len(refused.value.problems) == 3
    for value in ("987654", "secretly-a-spy", "XTS"):
        assert value not in str(refused.value)


def test_attributes_are_checked_and_encoded_as_declared() -> None:
    compiled = with_attributes()
    given = {"pay_frequency": "monthly", "collateral": 500, "distance_km": "-0.5"}
    read = read_application(payload(attributes=given), compiled)
    assert [read.values[f"attributes.{name}"] for name in given] == [1, 500, -5]
    bad = {"pay_frequency": "daily", "collateral": 99, "distance_km": "0.55"}
    assert pointers(payload(attributes=bad), compiled) == [f"/attributes/{name}" for name in bad]
    causes = unknown(attributes__collateral="source_error")
    read = read_application(payload(attributes={"collateral": None}, unknown=causes), compiled)
    assert read.cause("attributes.collateral") is Unknown.SOURCE_ERROR


def test_a_jurisdiction_must_be_one_that_the_policy_lends_in() -> None:
    assert pointers(payload(jurisdiction="US"), with_attributes()) == ["/jurisdiction"]
    assert read_application(payload(jurisdiction=None), with_attributes()).jurisdiction is None


def test_consent_is_required_where_the_policy_says_so() -> None:
    with pytest.raises(ConsentMissingError):
        read_application(payload(consent_at=None), policy())
    document = default_policy()
    document["consent_required"] = False
    assert read_application(payload(consent_at=None), compile_policy(document)).consent_at is None


def test_instants_may_come_parsed_already() -> None:
    assert read_application(payload(consent_at=AT, bureau__pulled_at=AT), policy()).bureau_pulled_at == AT
