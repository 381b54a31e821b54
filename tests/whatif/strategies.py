"""Random policies, and random requests that know nothing of the policy they meet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hypothesis import strategies as st

from app.domain.application import REPORTABLE_CAUSES
from app.domain.channel import ChannelState
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy
from app.domain.fields import (
    DERIVED_FIELDS,
    EMPLOYMENT_TYPES,
    INCOME_VERIFICATION,
    MAX_MONEY,
    SETTLEMENT_FIELDS,
    STANDARD_FIELDS,
    Field,
    FieldKind,
    Stage,
    declare_attribute,
)
from app.domain.policy import Effect, Op
from app.domain.requirements import permitted
from app.domain.screening import CLOCK_SKEW

AT: Final = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)
CAUSES: Final = tuple(cause.value for cause in REPORTABLE_CAUSES)
_TEXT: Final = {"en": "text", "zh": "文本"}
_PRODUCTS: Final = ("cash", "shop")
_JURISDICTIONS: Final = ("CN", "US-CA", "BR")
_TEXTS: Final = ("CN", "US-CA", "a", "b", "cash")
_KINDS: Final = (
    FieldKind.NUMBER,
    FieldKind.MONEY,
    FieldKind.CHOICE,
    FieldKind.BOOLEAN,
    FieldKind.DATE,
    FieldKind.TEXT,
)

_ADVERSE = st.sampled_from((Effect.REJECT.value, Effect.ESCALATE.value))
_ANY_EFFECT = st.sampled_from([effect.value for effect in Effect])


def _missing(effects: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    by_cause = st.dictionaries(st.sampled_from(CAUSES), effects, max_size=3)
    return effects | st.builds(lambda default, causes: {**causes, "default": default}, effects, by_cause)


@st.composite
def _attributes(draw: st.DrawFn) -> list[dict[str, Any]]:
    declared = []
    for name in draw(st.lists(st.sampled_from("pqrs"), unique=True, max_size=4)):
        kind = draw(st.sampled_from(_KINDS))
        attribute: dict[str, Any] = {"name": name, "kind": kind.value}
        if kind in {FieldKind.NUMBER, FieldKind.MONEY}:
            attribute["scale"] = draw(st.integers(0, 3)) if kind is FieldKind.NUMBER else 0
            attribute["minimum"], attribute["maximum"] = draw(
                st.sampled_from(((0, 10**4), (-100, 100), (0, MAX_MONEY), (-MAX_MONEY, MAX_MONEY)))
            )
        if kind is FieldKind.CHOICE:
            attribute |= {"choices": list(draw(st.permutations(("a", "b", "c")))), "ordered": draw(st.booleans())}
        declared.append(attribute)
    return declared


def _field_of(attribute: dict[str, Any]) -> Field:
    return declare_attribute(**{**attribute, "kind": FieldKind(attribute["kind"])})


def _value(field: Field) -> st.SearchStrategy[Any]:
    """A threshold in the form that a policy document writes it."""
    match field.kind:
        case FieldKind.TEXT if field.name == "product":
            return st.sampled_from(_PRODUCTS)
        case FieldKind.TEXT if field.name == "jurisdiction":
            return st.sampled_from(_JURISDICTIONS)
        case FieldKind.TEXT:
            return st.sampled_from(_TEXTS)
        case FieldKind.CHOICE:
            return st.sampled_from(field.choices)
        case FieldKind.BOOLEAN:
            return st.booleans()
        case FieldKind.DATE:
            return st.sampled_from(("1990-02-28", "2008-02-29", "2008-03-01"))
        case _:
            low, high = field.minimum, field.maximum
            near = st.integers(max(low, 0), min(high, 10_000)) if high >= 0 else st.integers(low, high)
            return (near | st.integers(low, high)).map(field.display)


@st.composite
def _requirement(draw: st.DrawFn, field: Field, tiers: int) -> tuple[str, list[Any]]:
    """An operator and a threshold for each tier."""
    operators = permitted(field)
    if field.stage is Stage.CEILING:
        operators = frozenset({Op.KNOWN})  # a limit has to fit the ceiling: the default policy has one
    op = draw(st.sampled_from([each for each in Op if each in operators]))
    if op is Op.KNOWN:
        return op.value, [True] * tiers
    one = _value(field)
    if op in {Op.ONE_OF, Op.NONE_OF}:
        return op.value, draw(
            st.lists(st.lists(one, min_size=1, max_size=3, unique=True), min_size=tiers, max_size=tiers)
        )
    return op.value, draw(st.lists(one, min_size=tiers, max_size=tiers))


@st.composite
def _rule(draw: st.DrawFn, code: str, fields: list[Field], tiers: tuple[str, ...]) -> dict[str, Any]:
    field = draw(st.sampled_from(fields))
    op, thresholds = draw(_requirement(field, len(tiers)))
    conditions = []
    for other in draw(st.lists(st.sampled_from(fields), max_size=2)):
        condition_op, values = draw(_requirement(other, 1))
        conditions.append(
            {"field": other.name, "op": condition_op, "value": values[0], "if_missing": draw(_missing(_ANY_EFFECT))}
        )
    names = {field.name, *(condition["field"] for condition in conditions)}
    settles = any(each.name in names for each in SETTLEMENT_FIELDS)
    effects = st.just(Effect.ESCALATE.value) if settles else _ADVERSE
    if_missing = _missing(st.sampled_from(("escalate", "pass")) if settles else _ANY_EFFECT)
    if settles:
        for condition in conditions:
            condition["if_missing"] = draw(_missing(st.sampled_from(("escalate", "pass"))))
    return {
        "code": code,
        "when": conditions,
        "field": field.name,
        "op": op,
        "thresholds": {
            tier: draw(st.sampled_from((value, value, value, None)))
            for tier, value in zip(tiers, thresholds, strict=True)
        },
        "effect": {tier: draw(effects) for tier in tiers},
        "if_missing": draw(if_missing),
        "priority": draw(st.integers(0, 99)),
        "confidential": draw(st.booleans()),
        "reason": _TEXT,
        "missing_reason": _TEXT,
    }


@st.composite
def policies(draw: st.DrawFn) -> CompiledPolicy:
    """Any policy that compiles: its own tiers, products, attributes, caps, and rules over every kind of field."""
    tiers = ("t1", "t2", "t3")[: draw(st.integers(1, 3))]
    attributes = draw(_attributes())
    fields = [*STANDARD_FIELDS, *DERIVED_FIELDS, *SETTLEMENT_FIELDS, *map(_field_of, attributes)]
    requested = [each.name for each in fields if each.stage is Stage.REQUEST]

    def per_tier(values: st.SearchStrategy[Any]) -> dict[str, Any]:
        return {tier: draw(st.none() | values) for tier in tiers}

    product = st.fixed_dictionaries(
        {
            "retention_class": st.sampled_from(("consumer", "business")),
            "minimum_amount": st.integers(1, 1_000),
            "product_cap": st.integers(1_000, 100_000) | st.integers(10**9, MAX_MONEY),
            "legal_cap": st.none() | st.integers(1, 50_000) | st.integers(1, MAX_MONEY),
            "rounding_unit": st.sampled_from((1, 7, 100, 10_000)),
            "term_months": st.sampled_from(({"minimum": 1, "maximum": 480}, {"minimum": 3, "maximum": 60})),
            "mandatory": st.lists(st.sampled_from(requested), max_size=3, unique=True),
        }
    )
    served = {
        "code": "CH01",
        "when": [],
        "field": "channel.served",
        "op": "is",
        "thresholds": dict.fromkeys(tiers, True),
        "effect": "reject",
        "if_missing": "escalate",
        "priority": 1,
        "confidential": False,
        "reason": _TEXT,
        "missing_reason": _TEXT,
    }
    codes = [f"R{number:02d}" for number in range(draw(st.integers(0, 7)))]
    effect = draw(_ADVERSE)
    rules = [served, *(draw(_rule(code, fields, tiers)) for code in codes)]
    debt_limits = per_tier(st.decimals("0.01", 100, places=2).map(str))
    if None not in debt_limits.values() and draw(st.booleans()):
        above = {tier: draw(st.sampled_from((100, "120.50"))) for tier in tiers}
        rules.append(
            draw(_rule("DT02", fields, tiers))
            | {
                "field": "dti_after_loan_pct",
                "op": "at_most",
                "thresholds": above,
                "when": [],
                "effect": draw(_ADVERSE),
            }
        )
    return compile_policy(
        {
            "name": "random",
            "currency": "CNY",
            "tiers": [{"code": tier, "rank": rank, "name": _TEXT} for rank, tier in enumerate(tiers, 1)],
            "default_tier": draw(st.sampled_from(tiers)),
            "probation": {"rules_tier": draw(st.sampled_from(tiers)), "ceiling_tier": draw(st.sampled_from(tiers))},
            "consent_required": draw(st.booleans()),
            "jurisdictions": list(_JURISDICTIONS),
            "products": {name: draw(product) for name in _PRODUCTS},
            "attributes": attributes,
            "income": {
                "verified_from": (level := draw(st.sampled_from(INCOME_VERIFICATION))),
                "haircut_pct": {
                    weaker: draw(st.none() | st.integers(0, 100))
                    for weaker in INCOME_VERIFICATION[: INCOME_VERIFICATION.index(level)]
                },
            },
            "ceiling": {
                "code": "IN03",
                "priority": 65,
                "effect": effect,
                "below_minimum_effect": "reject" if effect == "reject" else draw(_ADVERSE),
                "if_inputs_missing": draw(_missing(_ANY_EFFECT)),
                "tier_cap": per_tier(st.integers(1, 100_000) | st.integers(1, MAX_MONEY)),
                "income_multiple": per_tier(st.decimals("0.01", 100, places=2).map(str)),
                "dti_max_pct": debt_limits,
                "reasons": dict.fromkeys(("product_cap", "legal_cap", "tier_cap", "income_multiple", "dti"), _TEXT),
                "missing_reason": _TEXT,
            },
            "offer_valid_days": 30,
            "rules": rules,
            "cases": [],
        },
        version=1,
    )


_MONEY = st.integers(0, 100_000) | st.integers(0, MAX_MONEY)
_COUNT = st.integers(0, 10_000)
_MONTHS = st.integers(0, 1_200)
_ATTRIBUTE = (
    st.none()
    | st.booleans()
    | st.integers(-200, 20_000)
    | st.integers(-MAX_MONEY, MAX_MONEY)
    | st.sampled_from((0.0, -0.0, 0.5, 12.25, 12.125, 1e-7, 1e15, 1e22, -3.75, 100.0))
    | st.sampled_from(("a", "b", "c", "CN", "2008-02-29", "12.50", "7", "-1.0", "é" * 60))
)

_SECTIONS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "applicant": {
        "applicant_ref": st.sampled_from(("a", "b", "p-1")),
        "birth_date": st.dates(AT.date().replace(1900), AT.date().replace(2030)) | st.just(AT.date().replace(2008)),
        "age_years": st.integers(0, 150),
        "employment_type": st.sampled_from(EMPLOYMENT_TYPES),
        "employment_months": _MONTHS,
        "residence_months": _MONTHS,
        "monthly_income": _MONEY,
        "income_verification": st.sampled_from(INCOME_VERIFICATION),
        "monthly_obligations": _MONEY,
    },
    "bureau": {
        "pulled_at": st.timedeltas(timedelta(days=-40), timedelta(minutes=10)).map(lambda delta: AT + delta),
        "hit": st.booleans(),
        "score": _COUNT,
        "score_band": st.sampled_from(_TEXTS),
        "history_months": _MONTHS,
        "max_dpd_12m": _COUNT,
        "current_dpd_own": _COUNT,
        "inquiries_3m": _COUNT,
        "active_lenders": _COUNT,
        "bankruptcy_months_ago": _MONTHS,
        "open_judgment": st.booleans(),
    },
    "device": {"ids_on_device_24h": _COUNT},
    "business": {"months_trading": _MONTHS, "annual_revenue": _MONEY, "owner_guarantee": st.booleans()},
}


def _usually(draw: st.DrawFn, usual: st.SearchStrategy[Any], other: st.SearchStrategy[Any]) -> Any:
    return draw(other) if draw(st.integers(0, 24)) == 17 else draw(usual)


_OTHER_CONSENT = (None, AT + CLOCK_SKEW, AT + CLOCK_SKEW + timedelta.resolution, AT.replace(year=2300))


@st.composite
def requests(draw: st.DrawFn, policy: CompiledPolicy) -> dict[str, Any]:
    """A request of the right form that the policy decides more often than not."""
    product = _usually(draw, st.sampled_from(sorted(policy.products)), st.just("gone"))
    terms = policy.products.get(product)
    usual_terms = st.integers(terms.term_minimum, terms.term_maximum) if terms else st.integers(1, 480)
    payload: dict[str, Any] = {
        "application_id": "a-1",
        "channel_code": "web",
        "product": product,
        "currency": _usually(draw, st.just(policy.currency), st.just("EUR")),
        "amount": draw(st.integers(1_000, 100_000) | st.integers(1_000, MAX_MONEY) | st.integers(1, 2_000)),
        "term_months": _usually(draw, usual_terms, st.integers(1, 480)),
        "consent_at": _usually(draw, st.just(AT), st.sampled_from(_OTHER_CONSENT)),
        "all_in_apr_pct": draw(
            st.none() | st.decimals(0, 1_000, places=2).map(str) | st.sampled_from((0, 18.25, 7, "24.5"))
        ),
        "jurisdiction": _usually(draw, st.none() | st.sampled_from(_JURISDICTIONS), st.just("FR")),
        "sub_id": draw(st.none() | st.sampled_from(_TEXTS)),
        "purpose": draw(st.none() | st.sampled_from(_TEXTS)),
    }
    if draw(st.integers(0, 24)) == 17:
        payload["all_in_apr_pct"] = "7.125"  # more decimals than the field has
    absent = draw(st.integers(2, 12))
    for section, keys in _SECTIONS.items():
        payload[section] = {key: draw(values) for key, values in keys.items() if draw(st.integers(0, absent))}
    payload["attributes"] = {
        name: _usually(draw, st.none() | _value(field), _ATTRIBUTE)
        for name, field in policy.attributes.items()
        if draw(st.booleans())
    } | _usually(draw, st.just({}), st.dictionaries(st.sampled_from("pqrs"), _ATTRIBUTE, max_size=1))
    names = [each.name for each in STANDARD_FIELDS] + ["bureau.pulled_at"]
    names += [each.name for each in policy.attributes.values()] * 2
    stated = draw(st.dictionaries(st.sampled_from(names), st.sampled_from(CAUSES), max_size=4))
    payload["unknown"] = {name: cause for name, cause in stated.items() if _absent(payload, name)}
    payload["unknown"] |= _usually(
        draw, st.just({}), st.dictionaries(st.sampled_from([*names, "attributes.p", "r"]), st.sampled_from(CAUSES))
    )
    return payload


def _absent(payload: dict[str, Any], name: str) -> bool:
    section, _, key = name.rpartition(".")
    part: dict[str, Any] = payload.get(section, {}) if section else payload
    return part.get(key) is None


@st.composite
def standings(draw: st.DrawFn) -> tuple[ChannelState, bool, str | None]:
    """A channel's state, whether it is served, and a tier of its own; some tiers are of no policy."""
    state = draw(st.sampled_from([each for each in ChannelState if each is not ChannelState.PROPOSED]))
    return (
        state,
        draw(st.integers(0, 5)) > 0,
        draw(st.none() | st.sampled_from(("t1", "t2", "t3", "prime", "risk", "gone"))),
    )


facts = st.fixed_dictionaries(
    {},
    optional={
        each.name: st.booleans() if each.kind is FieldKind.BOOLEAN else st.integers(0, 5) for each in SETTLEMENT_FIELDS
    },
)
