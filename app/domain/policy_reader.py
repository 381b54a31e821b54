"""Reads a policy document from parsed JSON or YAML and reports every fault of its form by row and column.

Whether a well-formed document makes sense (fields, operators, tiers) is the compiler's question.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import TypeVar

from app.domain.application import REPORTABLE_CAUSES, Unknown
from app.domain.canonical import Json, without_floats
from app.domain.errors import PolicyError, PolicyProblem
from app.domain.fields import MAX_MONEY, FieldKind, Source, scaled
from app.domain.policy import (
    Attribute,
    CeilingPolicy,
    Condition,
    Effect,
    IfMissing,
    IncomePolicy,
    Op,
    PolicyDocument,
    Probation,
    Product,
    RetentionClass,
    Rule,
    Text,
    Threshold,
    Tier,
    threshold_of,
)

CAPS = ("product_cap", "legal_cap", "tier_cap", "income_multiple", "dti")
"""The caps that a ceiling is the least of, in the order in which ties are settled."""

MAX_RULES, MAX_TIERS, MAX_PRODUCTS, MAX_ATTRIBUTES, MAX_CASES, MAX_CONDITIONS = 500, 20, 100, 200, 1_000, 10
MAX_INCOME_MULTIPLE_HUNDREDTHS = 100_000
MAX_DTI_BPS = 100_000
MAX_PRIORITY = 10_000

_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,31}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_JURISDICTION = re.compile(r"[A-Z0-9-]{2,16}")

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")

_ABSENT = object()
_NO_TEXT = Text(en="", zh="")
_NO_THRESHOLD: Threshold = ""


class Row:
    """One mapping of the document while it is read: every column is asked for once, and each fault is kept.

    A faulty column yields a harmless stand-in, so that reading goes on and the other faults are found too; a document
    with any fault never reaches the outside.
    """

    def __init__(self, name: str, raw: object, problems: list[PolicyProblem], prefix: str = "") -> None:
        self.name = name
        self.problems = problems
        self.faults_before = len(problems)
        self.prefix = prefix
        self._left: dict[str, object] = {}
        self._mapping = isinstance(raw, Mapping)
        if isinstance(raw, Mapping):
            self._left = {str(key): value for key, value in raw.items()}
        else:
            self.fault("", "must be an object")

    @property
    def sound(self) -> bool:
        """Whether nothing was wrong in this row so far."""
        return len(self.problems) == self.faults_before

    def fault(self, column: str, detail: str) -> None:
        """Keep one fault of this row."""
        path = f"{self.prefix}.{column}".strip(".")
        self.problems.append(PolicyProblem(row=self.name, column=path, detail=detail))

    def take(self, column: str, default: object = _ABSENT) -> object:
        """The raw value of a column; a fault where it is absent and has no default."""
        value = self._left.pop(column, default)
        if value is _ABSENT and self._mapping:
            self.fault(column, "is missing")
        return value

    def read(self, column: str, convert: Callable[[object], T], stand_in: T, default: object = _ABSENT) -> T:
        """The converted value of a column. `convert` raises TypeError or ValueError with what is wrong."""
        raw = self.take(column, default)
        if raw is _ABSENT:
            return stand_in
        try:
            return convert(raw)
        except (TypeError, ValueError) as error:
            self.fault(column, str(error))
            return stand_in

    def row(self, column: str, default: object = _ABSENT) -> Row:
        """A nested mapping of the same row."""
        raw = self.take(column, default)
        path = f"{self.prefix}.{column}".strip(".")
        return Row(self.name, {} if raw is _ABSENT else raw, [] if raw is _ABSENT else self.problems, path)

    def items(self) -> list[tuple[str, object]]:
        """What has not been asked for yet, as pairs; counts as asked for."""
        left = list(self._left.items())
        self._left = {}
        return left

    def finish(self) -> None:
        """Report the columns that nobody asked for."""
        for column in self._left:
            self.fault(column, "is not a column of this row")
        self._left = {}


def read_policy(document: object, problems: list[PolicyProblem]) -> PolicyDocument | None:
    """The document's rows of the right form; each fault is appended to `problems`. None where it is no object."""
    if not isinstance(document, Mapping):
        problems.append(PolicyProblem(row="policy", column="", detail="must be an object"))
        return None
    top = Row("policy", document, problems)
    tiers = tuple(_tier(f"tiers[{i}]", raw, problems) for i, raw in enumerate(_list(top, "tiers", MAX_TIERS)))
    probation = top.row("probation")
    policy = PolicyDocument(
        name=top.read("name", _bounded_text, ""),
        currency=top.read("currency", _matching(_CURRENCY, "an ISO 4217 code"), ""),
        tiers=tiers,
        default_tier=top.read("default_tier", _name, ""),
        probation=Probation(
            rules_tier=probation.read("rules_tier", _name, ""), ceiling_tier=probation.read("ceiling_tier", _name, "")
        ),
        consent_required=top.read("consent_required", _boolean, True),
        jurisdictions=top.read("jurisdictions", _jurisdictions, None, None),
        products=_products(top, problems),
        attributes=tuple(
            attribute
            for i, raw in enumerate(_list(top, "attributes", MAX_ATTRIBUTES, ()))
            if (attribute := _attribute(f"attributes[{i}]", raw, problems)) is not None
        ),
        income=_income(Row("income", top.take("income"), problems)),
        ceiling=_ceiling(Row("ceiling", top.take("ceiling"), problems)),
        offer_valid_days=top.read("offer_valid_days", _integer(1, 365), 1),
        rules=tuple(
            rule
            for i, raw in enumerate(_list(top, "rules", MAX_RULES))
            if (rule := _rule(i, raw, problems)) is not None
        ),
        cases=tuple(_case(i, raw, problems) for i, raw in enumerate(_list(top, "cases", MAX_CASES, ()))),
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
        code=row.read("code", _name, ""), rank=row.read("rank", _integer(1, MAX_TIERS), 1), name=_text(row, "name")
    )
    row.finish()
    return tier


def _products(top: Row, problems: list[PolicyProblem]) -> dict[str, Product]:
    section = Row("products", top.take("products"), problems)
    products = {}
    for code, raw in section.items()[:MAX_PRODUCTS]:
        row = Row(f"products.{code}", raw, problems)
        if not _NAME.fullmatch(code):
            row.fault("", "must be named in lower case, digits and underscores")
        term = row.row("term_months")
        products[code] = Product(
            code=code,
            retention_class=row.read("retention_class", _member(RetentionClass), RetentionClass.CONSUMER),
            minimum_amount=row.read("minimum_amount", _integer(1, MAX_MONEY), 1),
            product_cap=row.read("product_cap", _integer(1, MAX_MONEY), MAX_MONEY),
            legal_cap=row.read("legal_cap", _optional(_integer(1, MAX_MONEY)), None),
            rounding_unit=row.read("rounding_unit", _integer(1, MAX_MONEY), 1),
            term_minimum=term.read("minimum", _integer(1, 480), 1),
            term_maximum=term.read("maximum", _integer(1, 480), 480),
            mandatory=row.read("mandatory", _texts, (), ()),
        )
        term.finish()
        row.finish()
    return products


def _attribute(name: str, raw: object, problems: list[PolicyProblem]) -> Attribute | None:
    row = Row(name, raw, problems)
    attribute = Attribute(
        name=row.read("name", _name, ""),
        kind=row.read("kind", _member(FieldKind), FieldKind.TEXT),
        scale=row.read("scale", _integer(0, 6), 0, 0),
        minimum=row.read("minimum", _optional(_integer(-MAX_MONEY, MAX_MONEY)), None, None),
        maximum=row.read("maximum", _optional(_integer(-MAX_MONEY, MAX_MONEY)), None, None),
        choices=row.read("choices", _texts, (), ()),
        ordered=row.read("ordered", _boolean, False, False),
        source=row.read("source", _member(Source), Source.APPLICATION, Source.APPLICATION.value),
    )
    row.finish()
    return attribute if row.sound else None


def _income(row: Row) -> IncomePolicy:
    haircut = row.row("haircut_pct")
    percentages = {
        level: _converted(haircut, level, raw, _optional(_integer(0, 100))) for level, raw in haircut.items()
    }
    income = IncomePolicy(verified_from=row.read("verified_from", _name, ""), haircut_pct=percentages)
    row.finish()
    return income


def _ceiling(row: Row) -> CeilingPolicy:
    reasons = row.row("reasons")
    ceiling = CeilingPolicy(
        code=row.read("code", _code, ""),
        priority=row.read("priority", _integer(0, MAX_PRIORITY), 0),
        effect=row.read("effect", _effect(Effect.REJECT, Effect.ESCALATE), Effect.REJECT),
        below_minimum_effect=row.read("below_minimum_effect", _effect(Effect.REJECT, Effect.ESCALATE), Effect.REJECT),
        if_inputs_missing=row.read("if_inputs_missing", _if_missing, _ESCALATE),
        tier_cap=_by_tier(row, "tier_cap", _integer(1, MAX_MONEY)),
        income_multiple_hundredths=_by_tier(row, "income_multiple", _hundredths(MAX_INCOME_MULTIPLE_HUNDREDTHS)),
        dti_max_bps=_by_tier(row, "dti_max_pct", _hundredths(MAX_DTI_BPS)),
        reasons={cap: _text(reasons, cap) for cap in CAPS},
        missing_reason=_text(row, "missing_reason"),
    )
    reasons.finish()
    row.finish()
    return ceiling


def _rule(position: int, raw: object, problems: list[PolicyProblem]) -> Rule | None:
    code = raw.get("code") if isinstance(raw, Mapping) else None
    row = Row(code if isinstance(code, str) and _CODE.fullmatch(code) else f"rules[{position}]", raw, problems)
    op = row.read("op", _member(Op), Op.KNOWN)
    thresholds = _by_tier(row, "thresholds", threshold_of)
    rule = Rule(
        code=row.read("code", _code, ""),
        when=_conditions(row),
        field=row.read("field", _bounded_text, ""),
        op=op,
        thresholds=thresholds,
        effect=_effects(row, thresholds),
        if_missing=row.read("if_missing", _optional(_if_missing), None, None if op is Op.KNOWN else _ABSENT),
        priority=row.read("priority", _integer(0, MAX_PRIORITY), 0),
        confidential=row.read("confidential", _boolean, False, False),
        reason=_text(row, "reason"),
        missing_reason=_optional_text(row, "missing_reason", required=op is not Op.KNOWN),
    )
    if rule.if_missing is None and op is not Op.KNOWN and row.sound:
        row.fault("if_missing", "must be named, because the field may be unknown")
    row.finish()
    return rule if row.sound else None


def _effects(row: Row, tiers: Collection[str]) -> dict[str, Effect]:
    """The effect of a failure by tier; a plain effect holds for every tier that has a threshold."""
    raw = row.take("effect", None)
    if isinstance(raw, Mapping):
        return {str(tier): _converted(row, f"effect.{tier}", item, _ADVERSE) for tier, item in raw.items()}
    return dict.fromkeys(tiers, _converted(row, "effect", raw, _ADVERSE))


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
                field=inner.read("field", _bounded_text, ""),
                op=inner.read("op", _member(Op), Op.KNOWN),
                value=inner.read("value", threshold_of, _NO_THRESHOLD),
                if_missing=inner.read("if_missing", _if_missing, _ESCALATE, Effect.ESCALATE.value),
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


# Columns --------------------------------------------------------------------------------------------------------------

_ESCALATE = IfMissing(default=Effect.ESCALATE, by_cause={})


def _list(row: Row, column: str, limit: int, default: object = _ABSENT) -> list[object]:
    raw = row.take(column, default)
    if raw is _ABSENT:
        return []
    if not isinstance(raw, list | tuple) or len(raw) > limit:
        row.fault(column, f"must be a list of at most {limit} rows")
        return []
    return list(raw)


def _converted(row: Row, column: str, raw: object, convert: Callable[[object], T]) -> T:
    """One converted value of a mapping whose keys are data; faults are kept, and None stands in for the value."""
    try:
        return convert(raw)
    except (TypeError, ValueError) as error:
        row.fault(column, str(error))
        return None  # type: ignore[return-value]  # a row with a fault is never used


def _by_tier(row: Row, column: str, convert: Callable[[object], T]) -> dict[str, T | None]:
    section = row.row(column)
    optional = _optional(convert)
    return {tier: _converted(section, tier, raw, optional) for tier, raw in section.items()}


def _text(row: Row, column: str) -> Text:
    return _optional_text(row, column, required=True) or _NO_TEXT


def _optional_text(row: Row, column: str, *, required: bool) -> Text | None:
    raw = row.take(column, _ABSENT if required else None)
    if raw is None and not required:
        return None
    if raw is _ABSENT:
        return _NO_TEXT
    inner = Row(row.name, raw, row.problems, f"{row.prefix}.{column}".strip("."))
    text = Text(en=inner.read("en", _bounded_text, ""), zh=inner.read("zh", _bounded_text, ""))
    inner.finish()
    return text


def _bounded_text(raw: object) -> str:
    if not isinstance(raw, str) or not raw.strip() or len(raw) > 500:
        raise ValueError("must be text of 1 to 500 characters")
    return raw


def _texts(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list | tuple) or not all(isinstance(item, str) and 0 < len(item) <= 128 for item in raw):
        raise ValueError("must be a list of texts")
    return tuple(raw)


def _boolean(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise ValueError("must be true or false")
    return raw


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[object], str]:
    def convert(raw: object) -> str:
        if not isinstance(raw, str) or not pattern.fullmatch(raw):
            raise ValueError(f"must be {what}")
        return raw

    return convert


_code = _matching(_CODE, "a code in capitals, digits and underscores")
_name = _matching(_NAME, "a name in lower case, digits and underscores")


def _jurisdictions(raw: object) -> tuple[str, ...] | None:
    if raw is None:
        return None
    codes = _texts(raw)
    if not codes or not all(_JURISDICTION.fullmatch(code) for code in codes) or len(set(codes)) != len(codes):
        raise ValueError("must be null or a list of different jurisdiction codes")
    return codes


def _integer(minimum: int, maximum: int) -> Callable[[object], int]:
    def convert(raw: object) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int) or not minimum <= raw <= maximum:
            raise ValueError(f"must be a whole number from {minimum} to {maximum}")
        return raw

    return convert


def _hundredths(maximum: int) -> Callable[[object], int]:
    def convert(raw: object) -> int:
        number = scaled(raw, 2)
        if not 0 < number <= maximum:
            raise ValueError(f"must be above 0 and at most {maximum // 100}")
        return number

    return convert


def _optional(convert: Callable[[object], T]) -> Callable[[object], T | None]:
    return lambda raw: None if raw is None else convert(raw)


def _member(kind: type[E]) -> Callable[[object], E]:
    def convert(raw: object) -> E:
        if not isinstance(raw, str) or raw not in kind.__members__.values():
            raise ValueError(f"must be one of {', '.join(member.value for member in kind)}")
        return kind(raw)

    return convert


def _effect(*allowed: Effect) -> Callable[[object], Effect]:
    def convert(raw: object) -> Effect:
        if not isinstance(raw, str) or raw not in {effect.value for effect in allowed}:
            raise ValueError(f"must be one of {', '.join(effect.value for effect in allowed)}")
        return Effect(raw)

    return convert


_ADVERSE = _effect(Effect.REJECT, Effect.ESCALATE)
_ANY_EFFECT = _effect(*Effect)


def _if_missing(raw: object) -> IfMissing:
    if not isinstance(raw, Mapping):
        return IfMissing(default=_ANY_EFFECT(raw), by_cause={})
    causes = {cause.value: cause for cause in REPORTABLE_CAUSES}
    unknown = [str(key) for key in raw if key != "default" and key not in causes]
    if unknown or "default" not in raw:
        raise ValueError(f"must be an effect, or name a default and may name {', '.join(causes)}")
    by_cause: dict[Unknown, Effect] = {
        causes[str(key)]: _ANY_EFFECT(item) for key, item in raw.items() if key != "default"
    }
    return IfMissing(default=_ANY_EFFECT(raw["default"]), by_cause=by_cause)
