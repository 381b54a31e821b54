"""Lint: each finding where it belongs, and nothing said that is not so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from app.domain.application import LoanApplication
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy
from app.domain.errors import ApplicationError, PolicyError
from app.domain.intake import read_application
from app.domain.lint import MIN_APPLICATIONS, Code, FieldUsage, Finding, lint
from app.domain.screening import screen
from app.domain.settlement import Decision, Facts, settle
from app.policies.defaults import default_policy
from tests.domain.builders import AT, TIERS, standing
from tests.domain.test_properties import facts, payloads

TEXT = {"en": "Other", "zh": "其他"}


def rule(code: str, field: str, op: str, thresholds: Any, **columns: Any) -> dict[str, Any]:
    """A rule; one threshold holds for every tier."""
    by_tier = thresholds if isinstance(thresholds, dict) else dict.fromkeys(TIERS, thresholds)
    row = {"code": code, "field": field, "op": op, "thresholds": by_tier, "effect": "escalate", "priority": 90}
    row |= {"if_missing": "escalate", "reason": TEXT, "missing_reason": TEXT}
    return row | columns


def linted(*rules: dict[str, Any], usage: FieldUsage | None = None, **sections: Any) -> list[tuple[str, str, str]]:
    """Code, row and column of what lint finds in the default policy with these rules, those of the same code gone."""
    return [(each.code.value[:3], each.row, each.column) for each in found(*rules, usage=usage, **sections)]


def found(*rules: dict[str, Any], usage: FieldUsage | None = None, **sections: Any) -> tuple[Finding, ...]:
    document = default_policy() | sections
    codes = {each["code"] for each in rules}
    document["rules"] = [each for each in document["rules"] if each["code"] not in codes] + list(rules)
    return lint(compile_policy(document), carried=usage)


def changed(**ceiling: Any) -> dict[str, Any]:
    """The default ceiling with changes."""
    return {"ceiling": default_policy()["ceiling"] | ceiling}


def test_the_default_policy_is_clean() -> None:
    assert linted() == []


PASS = {"if_missing": "pass"}
BOTH_PRODUCTS = ["small_business", "unsecured_consumer"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (rule("XX01", "bureau.score", "at_least", 0, **PASS), [("L01", "XX01", "thresholds.prime")]),
        (rule("XX01", "bureau.inquiries_3m", "at_most", 10_000, **PASS), [("L01", "XX01", "thresholds.prime")]),
        (rule("XX01", "amount", "at_least", 100_000), [("L01", "XX01", "thresholds.prime")]),
        (rule("XX01", "application.missing_fields", "at_most", 6), [("L01", "XX01", "thresholds.prime")]),
        (rule("XX01", "product", "one_of", BOTH_PRODUCTS), [("L01", "XX01", "thresholds.prime")]),
        (rule("XX01", "bureau.score", "at_least", dict.fromkeys(TIERS)), [("L01", "XX01", "thresholds")]),
        (
            rule(
                "XX01",
                "bureau.score",
                "at_least",
                700,
                when=[
                    {"field": "amount", "op": "above", "value": 500_000},
                    {"field": "amount", "op": "below", "value": 500_001},
                ],
            ),
            [("L02", "XX01", "when")],
        ),
        (
            rule(
                "XX01",
                "bureau.open_judgment",
                "is",
                False,
                when=[{"field": "bureau.open_judgment", "op": "is", "value": False, "if_missing": "pass"}],
                if_missing="pass",
            ),
            [("L02", "XX01", "when")],
        ),
        (rule("XX01", "device.ids_on_device_24h", "at_least", 0), [("L04", "XX01", "thresholds")]),
        (
            rule("XX01", "purpose", "is_not", {"prime": "betting", "general": None, "risk": None}),
            [("L08", "XX01", "thresholds.general")],
        ),
        (
            rule("XX01", "business.months_trading", "at_least", {"prime": 9, "general": 6, "risk": 12}, **PASS),
            [("L08", "XX01", "thresholds.general")],
        ),
        (
            rule("XX01", "purpose", "known", True, effect={"prime": "reject", "general": "reject", "risk": "escalate"}),
            [("L09", "XX01", "effect.risk")],
        ),
        (
            rule("XX01", "bureau.score", "at_least", {"prime": 0, "general": 1, "risk": 2}, **PASS),
            [("L03", "XX01", "thresholds.prime")],
        ),
    ],
)  # fmt: skip
def test_a_finding_names_its_row_and_column(row: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    assert sorted(linted(row)) == sorted(expected)


def test_a_rule_that_fails_for_everybody_is_told() -> None:
    row = rule("XX01", "bureau.score", "above", {"prime": None, "general": None, "risk": 10_000})
    assert ("L05", "XX01", "thresholds.risk") in linted(row)


def test_the_same_rule_under_another_code_is_a_duplicate_and_no_shadow() -> None:
    again = next(each for each in default_policy()["rules"] if each["code"] == "BU03") | {"code": "XX01"}
    assert linted(again) == [("L06", "XX01", "")]


def test_a_milder_rule_within_a_stricter_one_is_shadowed() -> None:
    milder = next(each for each in default_policy()["rules"] if each["code"] == "BU03") | {
        "code": "XX01",
        "thresholds": {"prime": 570, "general": 600, "risk": 600},
        "effect": "escalate",
    }
    assert linted(milder) == [("L07", "XX01", "")]
    assert linted(milder | {"when": []}) == []
    assert linted(milder | {"thresholds": {"prime": 570, "general": 630, "risk": 680}}) == [
        ("L07", "XX01", "thresholds.prime"),
        ("L07", "XX01", "thresholds.risk"),
    ]
    assert linted(milder | {"effect": "reject", "if_missing": "reject"}) == []


def test_a_rule_on_facts_never_shadows_one_without() -> None:
    with_facts = rule(
        "XX01", "applicant.residence_months", "at_least", 48,
        when=[{"field": "budget.available", "op": "is", "value": True}],
    )  # fmt: skip
    assert linted(with_facts) == []


def test_caps_are_held_to_the_order_of_tiers_and_to_what_can_be_lent() -> None:
    assert linted(**changed(tier_cap={"prime": 1_000_000, "general": 2_000_000, "risk": None})) == [
        ("L10", "ceiling", "tier_cap.general"),
        ("L10", "ceiling", "tier_cap.risk"),
    ]
    assert linted(**changed(income_multiple={"prime": 8, "general": 5, "risk": "5.01"})) == [
        ("L10", "ceiling", "income_multiple.risk")
    ]
    assert linted(**changed(tier_cap={"prime": 100_000_001, "general": 10_000_000, "risk": 3_000_000})) == [
        ("L11", "ceiling", "tier_cap.prime")
    ]
    assert linted(**changed(tier_cap={"prime": 20_000_000, "general": 10_000_000, "risk": 99_999})) == [
        ("L12", "ceiling", "tier_cap.risk"),
        ("L12", "ceiling", "tier_cap.risk"),
    ]


def test_a_product_that_cannot_be_lent_is_an_error() -> None:
    products = default_policy()["products"]
    products["small_business"] |= {"rounding_unit": 200_000_000}
    (finding,) = found(products=products)
    assert (finding.code, finding.severity) == (Code.PRODUCT_CLOSED, "error")


def test_mandatory_fields_that_no_rule_reads_are_told() -> None:
    document = default_policy()
    document["rules"] = [each for each in document["rules"] if each["code"] != "AP01"]
    assert {each.code for each in lint(compile_policy(document))} == {Code.MANDATORY_UNREAD}


def test_a_field_that_nobody_carried_is_told_with_every_row_that_reads_it() -> None:
    all_but = {
        *("bureau.pulled_at", "all_in_apr_pct", "applicant.birth_date", "applicant.monthly_income"),
        *(field for field in compile_policy(default_policy()).fields if field != "bureau.inquiries_3m"),
    } - {"applicant.age_years", "existing_dti_pct", "dti_after_loan_pct", "bureau.age_days"}
    usage = FieldUsage(applications=MIN_APPLICATIONS, days=30, carried=dict.fromkeys(all_but, 1))
    assert linted(usage=usage) == [("L15", "BU06", "field")]
    without = {name: 1 for name in all_but if name != "applicant.monthly_obligations"}
    told = linted(usage=FieldUsage(applications=MIN_APPLICATIONS, days=30, carried=without))
    assert {("L15", "DT01", "field"), ("L15", "DT02", "field"), ("L15", "ceiling", "dti_max_pct")} <= set(told)
    assert linted(usage=FieldUsage(applications=MIN_APPLICATIONS - 1, days=30, carried={})) == []


# What lint says is so -------------------------------------------------------------------------------------------------

FIELDS: Mapping[str, tuple[Any, ...]] = {
    "bureau.score": (0, 1, 680, 681, 9_999, 10_000),
    "bureau.inquiries_3m": (0, 1, 4, 10_000),
    "bureau.hit": (True, False),
    "applicant.age_years": (0, 18, 90, 150),
    "applicant.income_verification": ("none", "stated", "payroll", "tax"),
    "applicant.employment_type": ("permanent", "casual", "other"),
    "amount": (1, 99_999, 100_000, 100_001, 2_000_000, 10**15),
    "term_months": (1, 2, 59, 60, 480),
    "product": ("unsecured_consumer", "small_business"),
    "purpose": ("car", "rent"),
    "application.missing_fields": (0, 1, 4, 5, 6, 7),
    "existing_dti_pct": (0, 55, 9_000_000),
    "person.open_accepts": (0, 1, 3, 10**15),
    "budget.available": (True, False),
    "jurisdiction": ("CN", "HK"),
    "business.months_trading": (0, 24, 6_000),
}
ORDER, EQUAL, LISTS = ("at_least", "at_most", "above", "below"), ("is", "is_not"), ("one_of", "none_of")
OPS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(FIELDS, (*ORDER, *EQUAL, *LISTS, "known")),
    **dict.fromkeys(("bureau.hit", "budget.available"), (*EQUAL, "known")),
    **dict.fromkeys(("product", "purpose", "jurisdiction", "applicant.employment_type"), (*EQUAL, *LISTS, "known")),
    "existing_dti_pct": (*ORDER, "known"),
}
adverse = st.sampled_from(("reject", "escalate"))
any_effect = st.sampled_from(("reject", "escalate", "pass"))
missing = any_effect | st.fixed_dictionaries({"default": any_effect, "not_found": any_effect})


@st.composite
def requirement(draw: st.DrawFn, names: st.SearchStrategy[str]) -> tuple[str, str, Callable[[], Any]]:
    name = draw(names)
    op = draw(st.sampled_from(OPS[name]))
    values = st.sampled_from(FIELDS[name])

    def value() -> Any:
        if op == "known":
            return True
        return draw(st.lists(values, min_size=1, max_size=3)) if op in LISTS else draw(values)

    return name, op, value


@st.composite
def policies(draw: st.DrawFn) -> CompiledPolicy:
    """The default's frame with a channel rule and a few random rules that are likely to meet."""
    names = st.sampled_from(draw(st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=4)))
    document = default_policy()
    rows = [document["rules"][0]]
    for number in range(draw(st.integers(1, 6))):
        if number > 1 and draw(st.integers(0, 3)) == 0:
            row = deepcopy(draw(st.sampled_from(rows[1:])))
        else:
            name, op, value = draw(requirement(names))
            row = rule("", name, op, {tier: draw(st.none()) or value() for tier in TIERS})
            row["when"] = [
                {"field": field, "op": each_op, "value": each_value(), "if_missing": draw(missing)}
                for field, each_op, each_value in draw(st.lists(requirement(names), max_size=2))
            ]
        settled = any(
            each.startswith(("person", "budget")) for each in (row["field"], *(c["field"] for c in row["when"]))
        )
        row |= {"code": f"XX{number}", "effect": "escalate" if settled else draw(adverse), "if_missing": draw(missing)}
        rows.append(row)
    document["rules"] = rows
    document["jurisdictions"] = draw(st.none() | st.just(["CN"]))
    try:
        return compile_policy(document)
    except PolicyError:
        assume(condition=False)
        raise


def decided(policy: CompiledPolicy, tier: str, application: LoanApplication, known: Facts) -> Decision:
    return settle(screen(policy, standing(tier), application, AT), known)


@st.composite
def applications(draw: st.DrawFn) -> dict[str, Any]:
    """Any application, with values at the edges that rules are drawn at."""
    request = draw(payloads)
    for name in draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=6)):
        section, _, column = name.rpartition(".")
        if section in {"bureau", "applicant", "business"}:
            request[section][column] = draw(st.none() | st.sampled_from(FIELDS[name]))
            if column == "age_years":
                request[section]["birth_date"] = None
        elif not section and name in {"amount", "term_months", "purpose", "product"}:
            request[name] = draw(st.sampled_from(FIELDS[name]))
    return request | {"jurisdiction": draw(st.sampled_from((None, "CN"))), "unknown": {}}


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(policies(), st.lists(applications(), min_size=3, max_size=8), facts)
def test_a_dead_rule_gives_no_reason_and_a_shadowed_one_changes_no_outcome(
    policy: CompiledPolicy, requests: list[dict[str, Any]], known: Facts
) -> None:
    findings = lint(policy)
    dead = {(each.row, tier) for each in findings for tier in TIERS if _says(each, tier, "L01", "L02", "L03")}
    sure = {(each.row, tier) for each in findings for tier in TIERS if _says(each, tier, "L05")}
    useless = {tier: {each.row for each in findings if _says(each, tier, "L06", "L07")} for tier in TIERS}
    for request in requests:
        try:
            application = read_application(request, policy)
        except ApplicationError:
            continue  # the policy does not read it
        for tier in TIERS:
            decision = decided(policy, tier, application, known)
            codes = {reason.code for reason in decision.reasons}
            assert not {(code, tier) for code in codes} & dead
            assert {code for code, each in sure if each == tier} <= codes | set(decision.not_evaluated)
            if useless[tier]:
                rest = policy.document.document()
                rest["rules"] = [each for each in rest["rules"] if each["code"] not in useless[tier]]  # type: ignore[index,union-attr]
                other = decided(compile_policy(rest), tier, application, known)
                assert (other.outcome, other.next_action, other.counter_offer) == (
                    decision.outcome,
                    decision.next_action,
                    decision.counter_offer,
                )


def _says(finding: Finding, tier: str, *codes: str) -> bool:
    return (
        finding.code[:3] in codes
        and finding.row.startswith("XX")
        and (finding.code[:3] in {"L01", "L02", "L06"} or finding.column in {"", f"thresholds.{tier}"})
    )
