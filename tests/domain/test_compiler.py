"""A policy with a fault is refused with every fault named by row and column."""

# ruff: noqa: E501  # a row of the table of faults stays on one line

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.canonical import canonical_bytes
from app.domain.cases import check_cases
from app.domain.compiled import UnknownTierError
from app.domain.compiler import compile_policy
from app.domain.errors import PolicyError
from app.domain.policy_changes import differences, with_threshold
from app.domain.policy_reader import parse_policy
from app.policies.defaults import default_policy
from tests.domain.builders import policy

Document = dict[str, Any]


def rule(document: Document, code: str) -> dict[str, Any]:
    return next(row for row in document["rules"] if row["code"] == code)


def faults(document: object) -> list[tuple[str, str]]:
    with pytest.raises(PolicyError) as refused:
        compile_policy(document)
    assert all(problem.detail for problem in refused.value.problems)
    return [(problem.row, problem.column) for problem in refused.value.problems]


def change(code: str, /, **columns: object) -> Callable[[Document], None]:
    return lambda document: rule(document, code).update(columns)


def put(path: str, value: object) -> Callable[[Document], None]:
    def apply(document: Document) -> None:
        *parents, last = path.split(".")
        target: Any = document
        for key in parents:
            target = target[int(key)] if isinstance(target, list) else target[key]
        target[int(last) if isinstance(target, list) else last] = value

    return apply


def drop(path: str) -> Callable[[Document], None]:
    def apply(document: Document) -> None:
        *parents, last = path.split(".")
        target: Any = document
        for key in parents:
            target = target[int(key)] if isinstance(target, list) else target[key]
        del target[last]

    return apply


def by_tier(prime: object, general: object, risk: object) -> dict[str, object]:
    return {"prime": prime, "general": general, "risk": risk}


IS_HIT = {"field": "bureau.hit", "op": "is", "value": True}
ATTRIBUTE = {"name": "pay_frequency", "kind": "choice", "choices": ["weekly", "monthly"]}

FAULTS: dict[str, tuple[Callable[[Document], None], tuple[str, str]]] = {
    "unknown field": (change("BU03", field="bureau.skore"), ("BU03", "field")),
    "unknown field of a condition": (change("BU03", when=[IS_HIT | {"field": "bureau.hitt"}]), ("BU03", "when[0].field")),
    "undeclared attribute": (change("BU03", field="attributes.pay_frequency"), ("BU03", "field")),
    "wrong type": (change("BU03", thresholds=by_tier("high", 620, 680)), ("BU03", "thresholds.prime")),
    "a boolean for a number": (change("BU03", thresholds=by_tier(True, 620, 680)), ("BU03", "thresholds.prime")),
    "too many decimals": (change("AP03", thresholds=by_tier(24, "24.001", 24)), ("AP03", "thresholds.general")),
    "out of range": (change("BU03", thresholds=by_tier(580, 620, 10_001)), ("BU03", "thresholds.risk")),
    "a list where one value is taken": (change("BU03", thresholds=by_tier([1], 620, 680)), ("BU03", "thresholds.prime")),
    "one value where a list is taken": (change("BU03", op="one_of"), ("BU03", "thresholds.prime")),
    "order on text": (change("DU00", op="at_least", if_missing="escalate"), ("DU00", "op")),
    "order on a boolean": (change("BU08", op="at_least"), ("BU08", "op")),
    "order on an unordered choice": (change("EM01", field="applicant.employment_type"), ("EM01", "op")),
    "equality on a ratio": (change("DT01", op="is"), ("DT01", "op")),
    "unknown operator": (change("BU03", op="greater"), ("BU03", "op")),
    "impossible operator of a condition": (change("BU03", when=[IS_HIT | {"op": "above"}]), ("BU03", "when[0].op")),
    "wrong value of a condition": (change("BU03", when=[IS_HIT | {"value": "yes"}]), ("BU03", "when[0].value")),
    "unknown column of a condition": (change("BU03", when=[IS_HIT | {"x": 1}]), ("BU03", "when[0].x")),
    "unknown choice": (change("IN02", thresholds=by_tier("stated", "bank", "sworn")), ("IN02", "thresholds.risk")),
    "missing tier": (change("BU03", thresholds={"prime": 1, "general": 2}), ("BU03", "thresholds.risk")),
    "missing tier of an effect": (change("BU01", effect={"prime": "reject", "risk": "reject"}), ("BU01", "effect.general")),
    "unknown tier": (change("BU03", thresholds=by_tier(1, 2, 3) | {"gold": 4}), ("BU03", "thresholds.gold")),
    "an effect that accepts": (change("BU03", effect="pass"), ("BU03", "effect")),
    "unknown effect": (change("BU03", effect=by_tier("accept", "reject", "reject")), ("BU03", "effect.prime")),
    "no effect for an unknown value": (change("BU03", if_missing=None), ("BU03", "if_missing")),
    "unknown cause": (change("BU03", if_missing={"default": "escalate", "lost": "pass"}), ("BU03", "if_missing")),
    "causes without a default": (change("BU03", if_missing={"not_found": "pass"}), ("BU03", "if_missing")),
    "duplicate code": (put("rules.1.code", "CH01"), ("CH01", "code")),
    "the ceiling's code": (change("DT02", code="IN03"), ("IN03", "code")),
    "reserved code": (change("DT02", code="CH00"), ("CH00", "code")),
    "code of the wrong form": (put("rules.3.code", "du-00"), ("rules[3]", "code")),
    "unknown column": (change("BU03", treshold=3), ("BU03", "treshold")),
    "no Chinese notice": (change("BU03", reason={"en": "Score"}), ("BU03", "reason.zh")),
    "no English notice": (change("BU03", missing_reason={"zh": "分"}), ("BU03", "missing_reason.en")),
    "an empty notice": (change("BU03", reason={"en": " ", "zh": "分"}), ("BU03", "reason.en")),
    "no notice for the unknown": (change("BU03", missing_reason=None), ("BU03", "missing_reason")),
    "known without true": (change("DU00", thresholds=by_tier(True, False, True)), ("DU00", "thresholds.general")),
    "a settlement rule that rejects": (change("DU01", effect="reject"), ("DU01", "effect")),
    "a product the policy lacks": (change("SB01", when=[{"field": "product", "op": "is", "value": "car"}]), ("SB01", "when[0].value")),
    "channels that are not served may pass": (change("CH01", thresholds=by_tier(True, None, True)), ("policy", "rules")),
    "channels that are not served only escalate": (change("CH01", effect="escalate"), ("policy", "rules")),
    "a ratio after the loan below the ceiling's": (change("DT02", thresholds=by_tier(50, 45, "34.99")), ("DT02", "thresholds.risk")),
    "no ceiling for the ratio after the loan": (put("ceiling.dti_max_pct.risk", None), ("DT02", "thresholds.risk")),
    "a ratio after the loan from below": (change("DT02", op="at_least"), ("DT02", "op")),
    "unknown default tier": (put("default_tier", "gold"), ("policy", "default_tier")),
    "unknown probation tier": (put("probation.ceiling_tier", "gold"), ("policy", "probation.ceiling_tier")),
    "one rank twice": (put("tiers.1.rank", 1), ("policy", "tiers")),
    "missing cap of a tier": (drop("ceiling.tier_cap.risk"), ("ceiling", "tier_cap.risk")),
    "cap of an unknown tier": (put("ceiling.income_multiple.gold", 3), ("ceiling", "income_multiple.gold")),
    "negative cap": (put("ceiling.tier_cap.risk", -1), ("ceiling", "tier_cap.risk")),
    "ratio above its range": (put("ceiling.dti_max_pct.prime", 1_001), ("ceiling", "dti_max_pct.prime")),
    "a low ceiling milder than a high one": (put("ceiling", default_policy()["ceiling"] | {"effect": "reject", "below_minimum_effect": "escalate"}), ("ceiling", "below_minimum_effect")),
    "no reason for a cap": (drop("ceiling.reasons.dti"), ("ceiling", "reasons.dti")),
    "no haircut for weak income": (drop("income.haircut_pct.stated"), ("income", "haircut_pct.stated")),
    "a haircut for strong income": (put("income.haircut_pct.tax", 90), ("income", "haircut_pct.tax")),
    "unknown verification": (put("income.verified_from", "sworn"), ("income", "verified_from")),
    "no products": (put("products", {}), ("products", "")),
    "minimum above the cap": (put("products.small_business.minimum_amount", 10**9), ("products.small_business", "minimum_amount")),
    "term the wrong way round": (put("products.small_business.term_months.minimum", 61), ("products.small_business", "term_months.minimum")),
    "unknown retention class": (put("products.small_business.retention_class", "ever"), ("products.small_business", "retention_class")),
    "unknown mandatory field": (put("products.small_business.mandatory", ["x"]), ("products.small_business", "mandatory")),
    "currency of the wrong form": (put("currency", "yuan"), ("policy", "currency")),
    "unknown section": (put("limits", {}), ("policy", "limits")),
    "missing section": (drop("offer_valid_days"), ("policy", "offer_valid_days")),
    "a section of the wrong form": (put("ceiling", []), ("ceiling", "")),
    "a rule of the wrong form": (put("rules.0", "CH01"), ("rules[0]", "")),
    "a choice without choices": (put("attributes", [ATTRIBUTE | {"choices": []}]), ("attributes.pay_frequency", "kind")),
    "an attribute declared twice": (put("attributes", [ATTRIBUTE, ATTRIBUTE]), ("attributes.pay_frequency", "name")),
    "an attribute the wrong way round": (put("attributes", [{"name": "n", "kind": "number", "minimum": 2, "maximum": 1}]), ("attributes.n", "minimum")),
    "an attribute that is a ratio": (put("attributes", [{"name": "n", "kind": "ratio"}]), ("attributes.n", "kind")),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "where"), FAULTS.values(), ids=FAULTS.keys())
def test_a_faulty_policy_is_refused_and_its_fault_named(
    spoil: Callable[[Document], None], where: tuple[str, str]
) -> None:
    document = default_policy()
    spoil(document)
    assert where in faults(document)


def test_every_fault_is_reported_at_once() -> None:
    document = default_policy()
    for spoil in (change("BU03", op="greater"), change("DT01", field="dti"), put("default_tier", "gold")):
        spoil(document)
    assert {("BU03", "op"), ("DT01", "field"), ("policy", "default_tier")} == set(faults(document))


@pytest.mark.parametrize("document", [None, [], "policy", 3])
def test_what_is_no_object_is_no_policy(document: object) -> None:
    assert faults(document) == [("policy", "")]


@pytest.mark.parametrize("text", ["\x00", "\ud800"])
def test_text_that_cannot_be_stored_is_refused_even_in_a_case(text: str) -> None:
    document = default_policy()
    document["cases"][0]["application"]["purpose"] = text
    assert faults(document) == [("policy", "")]


def test_an_empty_object_is_refused_without_a_crash() -> None:
    assert ("policy", "rules") in faults({})


def test_a_declared_attribute_is_a_field_like_any_other() -> None:
    document = default_policy()
    document["attributes"] = [ATTRIBUTE | {"ordered": True}]
    document["rules"].append(
        rule(document, "IN02")
        | {"code": "PF01", "field": "attributes.pay_frequency", "thresholds": by_tier(None, "weekly", "monthly")}
    )
    compiled = compile_policy(document)
    assert compiled.fields["attributes.pay_frequency"].choices == ("weekly", "monthly")
    assert [row.code for *_, row in compiled.rules("prime").request].count("PF01") == 0
    assert [row.code for *_, row in compiled.rules("risk").request].count("PF01") == 1


def test_there_is_no_stand_in_for_the_rules_of_an_unknown_tier() -> None:
    with pytest.raises(UnknownTierError):
        policy().rules("gold")


def test_one_threshold_can_be_changed_and_the_change_reads_well() -> None:
    before = parse_policy(default_policy())
    after = with_threshold(before, "BU03", "risk", 700)
    assert [str(difference) for difference in differences(before, after)] == ["BU03 bureau.score for risk: 680 -> 700"]
    assert differences(after, after) == ()


@pytest.mark.parametrize(("code", "tier", "value"), [("XX99", "risk", 1), ("BU03", "gold", 1), ("BU03", "risk", {})])
def test_a_small_change_of_nothing_is_refused(code: str, tier: str, value: object) -> None:
    with pytest.raises(PolicyError) as refused:
        with_threshold(policy().document, code, tier, value)
    assert refused.value.problems[0].row == code


def test_rules_that_come_and_go_are_differences_of_their_own() -> None:
    before = parse_policy(default_policy())
    document = default_policy()
    document["rules"] = [row for row in document["rules"] if row["code"] != "RE01"]
    document["probation"]["ceiling_tier"] = "general"
    shown = [str(difference) for difference in differences(before, parse_policy(document))]
    assert shown[0] == "probation.ceiling_tier: risk -> general"
    assert shown[1].startswith("RE01: {code: RE01")
    assert shown[1].endswith("-> none")


def test_a_case_is_compared_with_the_one_of_its_name() -> None:
    """Not the list with the list: nobody reads two pages of JSON for one score."""
    before, document = parse_policy(default_policy()), default_policy()
    gone, changed = document["cases"][0]["name"], document["cases"][1]["name"]
    document["cases"][1]["application"]["bureau"]["score"] = 640
    document["cases"] = [*document["cases"][1:], document["cases"][0] | {"name": "a new one"}]
    assert [str(difference) for difference in differences(before, parse_policy(document))] == [
        f'case "{gone}": removed',
        f'case "{changed}" application.bureau.score: 620 -> 640',
        'case "a new one": added',
    ]
    document["cases"][0]["name"] = "a new one"  # two of one name: the lists are compared as they are
    (whole,) = differences(before, parse_policy(document))
    assert whole.path == "cases"


JUNK: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    10**30,
    1.5,
    float("nan"),
    "",
    "x",
    "\x00",
    "\ud800",
    [],
    [[]],
    [None],
    {},
    {"a": {}},
    {1: 2},
)


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every container of the document with each of its keys."""
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    return [(node, key) for key in keys] + [place for key in keys for place in places(node[key])]


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_any_junk_anywhere_is_refused_or_compiles_and_never_crashes(data: st.DataObject) -> None:
    document = default_policy()
    document["cases"] = document["cases"][:1]
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(document)))
        container[key] = data.draw(st.sampled_from(JUNK))
    try:
        compiled = compile_policy(document)
    except PolicyError:
        pass
    else:
        check_cases(compiled)
        assert canonical_bytes(compiled.document.document())
        assert parse_policy(compiled.document.document()) == compiled.document


@pytest.mark.parametrize(
    ("thresholds", "column"),
    [({"prime": 1, "general": 2}, "thresholds.risk"), (by_tier(1, 2, 3) | {"gold": 4}, "thresholds.gold")],
)
def test_a_tier_that_is_missing_or_unknown_is_one_fault(thresholds: dict[str, int], column: str) -> None:
    document = default_policy()
    rule(document, "BU03")["thresholds"] = thresholds
    assert faults(document) == [("BU03", column)]
