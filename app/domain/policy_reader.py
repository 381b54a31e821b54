"""Reads a policy document from parsed JSON or YAML and reports every fault of its form by row and column.

Whether a well-formed document makes sense (fields, operators, tiers) is the compiler's question.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from app.domain.canonical import Json, without_floats
from app.domain.errors import PolicyError, PolicyProblem
from app.domain.fields import MAX_MONEY, FieldKind, Source
from app.domain.policy import (
    Attribute,
    CeilingPolicy,
    Condition,
    Effect,
    IncomePolicy,
    Op,
    PolicyDocument,
    Probation,
    Product,
    RetentionClass,
    Rule,
    Threshold,
    Tier,
    threshold_of,
)
from app.domain.policy_columns import (
    ABSENT,
    ADVERSE,
    ESCALATE,
    Row,
    boolean,
    bounded_text,
    by_tier,
    converted,
    currency,
    hundredths,
    identifier,
    integer,
    is_rule_code,
    jurisdictions,
    member,
    missing_effect,
    optional,
    read_optional_text,
    read_text,
    rows_of,
    rule_code,
    texts,
)

CAPS = ("product_cap", "legal_cap", "tier_cap", "income_multiple", "dti")
"""The caps that a ceiling is the least of, in the order in which ties are settled."""

MAX_RULES, MAX_TIERS, MAX_PRODUCTS, MAX_ATTRIBUTES, MAX_CASES, MAX_CONDITIONS = 500, 20, 100, 200, 1_000, 10
MAX_INCOME_MULTIPLE_HUNDREDTHS = 100_000
MAX_DTI_BPS = 100_000
MAX_PRIORITY = 10_000

_NO_THRESHOLD: Threshold = ""


def read_policy(document: object, problems: list[PolicyProblem]) -> PolicyDocument | None:
    """The document's rows of the right form; each fault is appended to `problems`. None where it is no object."""
    if not isinstance(document, Mapping):
        problems.append(PolicyProblem(row="policy", column="", detail="must be an object"))
        return None
    top = Row("policy", document, problems)
    tiers = tuple(_tier(f"tiers[{i}]", raw, problems) for i, raw in enumerate(rows_of(top, "tiers", MAX_TIERS)))
    top.read("$schema", optional(bounded_text), None, None)  # for editors: see `channel-gate policy schema`
    probation = top.row("probation")
    policy = PolicyDocument(
        name=top.read("name", bounded_text, ""),
        currency=top.read("currency", currency, ""),
        tiers=tiers,
        default_tier=top.read("default_tier", identifier, ""),
        probation=Probation(
            rules_tier=probation.read("rules_tier", identifier, ""),
            ceiling_tier=probation.read("ceiling_tier", identifier, ""),
        ),
        consent_required=top.read("consent_required", boolean, True),
        jurisdictions=top.read("jurisdictions", jurisdictions, None, None),
        products=_products(top, problems),
        attributes=tuple(
            attribute
            for i, raw in enumerate(rows_of(top, "attributes", MAX_ATTRIBUTES, ()))
            if (attribute := _attribute(f"attributes[{i}]", raw, problems)) is not None
        ),
        income=_income(Row("income", top.take("income"), problems)),
        ceiling=_ceiling(Row("ceiling", top.take("ceiling"), problems)),
        offer_valid_days=top.read("offer_valid_days", integer(1, 365), 1),
        rules=tuple(
            rule
            for i, raw in enumerate(rows_of(top, "rules", MAX_RULES))
            if (rule := _rule(i, raw, [tier.code for tier in tiers], problems)) is not None
        ),
        cases=tuple(_case(i, raw, problems) for i, raw in enumerate(rows_of(top, "cases", MAX_CASES, ()))),
    )
    probation.finish()
    top.finish()
    return policy


def parse_policy(document: object) -> PolicyDocument:
    """The document as typed values; says nothing yet about whether it makes sense (see `compiler`).

    Raises:
        PolicyError: with every fault of form.
    """
    problems: list[PolicyProblem] = []
    policy = read_policy(document, problems)
    if problems or policy is None:
        raise PolicyError(tuple(problems))
    return policy


# Rows -----------------------------------------------------------------------------------------------------------------


def _tier(name: str, raw: object, problems: list[PolicyProblem]) -> Tier:
    row = Row(name, raw, problems)
    tier = Tier(
        code=row.read("code", identifier, ""),
        rank=row.read("rank", integer(1, MAX_TIERS), 1),
        name=read_text(row, "name"),
    )
    row.finish()
    return tier


def _products(top: Row, problems: list[PolicyProblem]) -> dict[str, Product]:
    section = Row("products", top.take("products"), problems)
    products = {}
    given = section.items()
    if len(given) > MAX_PRODUCTS:
        section.fault("", f"must be at most {MAX_PRODUCTS} products")
    for code, raw in given[:MAX_PRODUCTS]:
        row = Row(f"products.{code}", raw, problems)
        converted(row, "", code, identifier)
        term = row.row("term_months")
        products[code] = Product(
            code=code,
            retention_class=row.read("retention_class", member(RetentionClass), RetentionClass.CONSUMER),
            minimum_amount=row.read("minimum_amount", integer(1, MAX_MONEY), 1),
            product_cap=row.read("product_cap", integer(1, MAX_MONEY), MAX_MONEY),
            legal_cap=row.read("legal_cap", optional(integer(1, MAX_MONEY)), None),
            rounding_unit=row.read("rounding_unit", integer(1, MAX_MONEY), 1),
            term_minimum=term.read("minimum", integer(1, 480), 1),
            term_maximum=term.read("maximum", integer(1, 480), 480),
            mandatory=row.read("mandatory", texts, (), ()),
        )
        term.finish()
        row.finish()
    return products


def _attribute(name: str, raw: object, problems: list[PolicyProblem]) -> Attribute | None:
    row = Row(name, raw, problems)
    attribute = Attribute(
        name=row.read("name", identifier, ""),
        kind=row.read("kind", member(FieldKind), FieldKind.TEXT),
        scale=row.read("scale", integer(0, 6), 0, 0),
        minimum=row.read("minimum", optional(integer(-MAX_MONEY, MAX_MONEY)), None, None),
        maximum=row.read("maximum", optional(integer(-MAX_MONEY, MAX_MONEY)), None, None),
        choices=row.read("choices", texts, (), ()),
        ordered=row.read("ordered", boolean, False, False),
        source=row.read("source", member(Source), Source.APPLICATION, Source.APPLICATION.value),
    )
    row.finish()
    return attribute if row.sound else None


def _income(row: Row) -> IncomePolicy:
    haircut = row.row("haircut_pct")
    percentages = {level: converted(haircut, level, raw, optional(integer(0, 100))) for level, raw in haircut.items()}
    income = IncomePolicy(verified_from=row.read("verified_from", identifier, ""), haircut_pct=percentages)
    row.finish()
    return income


def _ceiling(row: Row) -> CeilingPolicy:
    reasons = row.row("reasons")
    ceiling = CeilingPolicy(
        code=row.read("code", rule_code, ""),
        priority=row.read("priority", integer(0, MAX_PRIORITY), 0),
        effect=row.read("effect", ADVERSE, Effect.REJECT),
        below_minimum_effect=row.read("below_minimum_effect", ADVERSE, Effect.REJECT),
        if_inputs_missing=row.read("if_inputs_missing", missing_effect, ESCALATE),
        tier_cap=by_tier(row, "tier_cap", integer(1, MAX_MONEY)),
        income_multiple_hundredths=by_tier(row, "income_multiple", hundredths(MAX_INCOME_MULTIPLE_HUNDREDTHS)),
        dti_max_bps=by_tier(row, "dti_max_pct", hundredths(MAX_DTI_BPS)),
        reasons={cap: read_text(reasons, cap) for cap in CAPS},
        missing_reason=read_text(row, "missing_reason"),
    )
    reasons.finish()
    row.finish()
    return ceiling


def _rule(position: int, raw: object, tiers: Collection[str], problems: list[PolicyProblem]) -> Rule | None:
    code = raw.get("code") if isinstance(raw, Mapping) else None
    row = Row(code if is_rule_code(code) else f"rules[{position}]", raw, problems)
    op = row.read("op", member(Op), Op.KNOWN)
    rule = Rule(
        code=row.read("code", rule_code, ""),
        when=_conditions(row),
        field=row.read("field", bounded_text, ""),
        op=op,
        thresholds=by_tier(row, "thresholds", threshold_of),
        effect=_effects(row, tiers),
        if_missing=row.read("if_missing", optional(missing_effect), None, None if op is Op.KNOWN else ABSENT),
        priority=row.read("priority", integer(0, MAX_PRIORITY), 0),
        confidential=row.read("confidential", boolean, False, False),
        reason=read_text(row, "reason"),
        missing_reason=read_optional_text(row, "missing_reason", required=op is not Op.KNOWN),
    )
    if rule.if_missing is None and op is not Op.KNOWN and row.sound:
        row.fault("if_missing", "must be named, because the field may be unknown")
    row.finish()
    return rule if row.sound else None


def _effects(row: Row, tiers: Collection[str]) -> dict[str, Effect]:
    """The effect of a failure by tier; a plain effect holds for every tier that the policy has."""
    raw = row.take("effect", None)
    if isinstance(raw, Mapping):
        return {str(tier): converted(row, f"effect.{tier}", item, ADVERSE) for tier, item in raw.items()}
    return dict.fromkeys(tiers, converted(row, "effect", raw, ADVERSE))


def _conditions(row: Row) -> tuple[Condition, ...]:
    raw = row.take("when", ())
    if not isinstance(raw, list | tuple) or len(raw) > MAX_CONDITIONS:
        row.fault("when", f"must be a list of at most {MAX_CONDITIONS} conditions")
        return ()
    conditions = []
    for i, item in enumerate(raw):
        inner = Row(row.name, item, row.problems, f"when[{i}]")
        conditions.append(
            Condition(
                field=inner.read("field", bounded_text, ""),
                op=inner.read("op", member(Op), Op.KNOWN),
                value=inner.read("value", threshold_of, _NO_THRESHOLD),
                if_missing=inner.read("if_missing", missing_effect, ESCALATE, Effect.ESCALATE.value),
            )
        )
        inner.finish()
    return tuple(conditions)


def _case(position: int, raw: object, problems: list[PolicyProblem]) -> dict[str, Json]:
    row = Row(f"cases[{position}]", raw, problems)
    try:
        case = without_floats(dict(row.items()))
    except TypeError as error:
        row.fault("", str(error))
        case = {}
    return case if isinstance(case, dict) else {}
