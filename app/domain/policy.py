"""The policy document: the rule table, the ceilings and what they hold for, as immutable values.

The compiler turns a document into what decides; this module only says what a document is, how it is written down, and
how two of them differ. Threshold values stay in their JSON form here (fractions as decimal text).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from app.domain.application import Unknown
from app.domain.canonical import Json, without_floats
from app.domain.fields import FieldKind, Source

Threshold: TypeAlias = "bool | int | str | tuple[bool | int | str, ...]"
"""What a requirement compares with, as the document writes it: money in minor units, fractions as decimal text."""


class Effect(StrEnum):
    """What follows where a rule fails or its field is unknown. The first is the most severe."""

    REJECT = "reject"
    ESCALATE = "escalate"
    PASS = "pass"  # noqa: S105  # an effect, not a password


class Op(StrEnum):
    """The requirement that must hold: a rule fails when it does not."""

    AT_LEAST = "at_least"
    AT_MOST = "at_most"
    ABOVE = "above"
    BELOW = "below"
    IS = "is"
    IS_NOT = "is_not"
    ONE_OF = "one_of"
    NONE_OF = "none_of"
    KNOWN = "known"


class RetentionClass(StrEnum):
    """How long decisions on a product are kept."""

    CONSUMER = "consumer"
    BUSINESS = "business"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One notice text in both languages."""

    en: str
    zh: str

    def document(self) -> dict[str, str]:
        """As the policy document and the response write it."""
        return {"en": self.en, "zh": self.zh}


@dataclass(frozen=True, slots=True, kw_only=True)
class IfMissing:
    """The effect of an unknown field, by the cause of its being unknown."""

    default: Effect
    by_cause: Mapping[Unknown, Effect]

    def effect(self, cause: Unknown) -> Effect:
        """The effect that this cause has."""
        return self.by_cause.get(cause, self.default)

    def document(self) -> Json:
        """A plain effect, or a mapping where causes differ."""
        if not self.by_cause:
            return self.default.value
        return {**{cause.value: effect.value for cause, effect in self.by_cause.items()}, "default": self.default.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A class of channels. `rank` orders tiers from the most trusted (1) upwards."""

    code: str
    rank: int
    name: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Probation:
    """The tiers whose rules and whose ceiling hold for a channel on probation."""

    rules_tier: str
    ceiling_tier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """What may be applied for. Amounts are in minor units; the term's ends are inclusive.

    `mandatory` names the fields without which an application for it is incomplete.
    """

    code: str
    retention_class: RetentionClass
    minimum_amount: int
    product_cap: int
    legal_cap: int | None
    rounding_unit: int
    term_minimum: int
    term_maximum: int
    mandatory: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """A lender's own field, as declared. `minimum` and `maximum` are integers at `scale`; None means the widest."""

    name: str
    kind: FieldKind
    scale: int = 0
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    ordered: bool = False
    source: Source = Source.APPLICATION


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomePolicy:
    """Which income counts in full, and how much of the rest.

    `haircut_pct` is the percentage that still counts, by level of verification below `verified_from`; None means that
    income so verified is no basis for a ceiling at all.
    """

    verified_from: str
    haircut_pct: Mapping[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CeilingPolicy:
    """The caps that differ by tier, and what happens above their least. None: the cap does not apply to the tier.

    `income_multiple_hundredths` and `dti_max_bps` are integers at scale 2 (of a multiple, of a percentage).
    """

    code: str
    priority: int
    effect: Effect
    below_minimum_effect: Effect
    if_inputs_missing: IfMissing
    tier_cap: Mapping[str, int | None]
    income_multiple_hundredths: Mapping[str, int | None]
    dti_max_bps: Mapping[str, int | None]
    reasons: Mapping[str, Text]
    missing_reason: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """When a rule applies. `if_missing` is the effect where this field is unknown; pass: the rule does not apply."""

    field: str
    op: Op
    value: Threshold
    if_missing: IfMissing


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of the table. A threshold of None says that the rule does not apply to that tier."""

    code: str
    when: tuple[Condition, ...]
    field: str
    op: Op
    thresholds: Mapping[str, Threshold | None]
    effect: Mapping[str, Effect]
    if_missing: IfMissing | None
    priority: int
    confidential: bool
    reason: Text
    missing_reason: Text | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDocument:
    """A whole policy. `cases` are applications with the outcomes that the policy's authors expect of them."""

    name: str
    currency: str
    tiers: tuple[Tier, ...]
    default_tier: str
    probation: Probation
    consent_required: bool
    jurisdictions: tuple[str, ...] | None
    products: Mapping[str, Product]
    attributes: tuple[Attribute, ...]
    income: IncomePolicy
    ceiling: CeilingPolicy
    offer_valid_days: int
    rules: tuple[Rule, ...]
    cases: tuple[Mapping[str, Json], ...] = ()

    def document(self) -> dict[str, Json]:
        """The canonical JSON form: reading it again gives an equal policy."""
        return {
            "name": self.name,
            "currency": self.currency,
            "tiers": [{"code": tier.code, "rank": tier.rank, "name": _text(tier.name)} for tier in self.tiers],
            "default_tier": self.default_tier,
            "probation": {"rules_tier": self.probation.rules_tier, "ceiling_tier": self.probation.ceiling_tier},
            "consent_required": self.consent_required,
            "jurisdictions": None if self.jurisdictions is None else list(self.jurisdictions),
            "products": {code: _product(product) for code, product in self.products.items()},
            "attributes": [_attribute(attribute) for attribute in self.attributes],
            "income": {"verified_from": self.income.verified_from, "haircut_pct": dict(self.income.haircut_pct)},
            "ceiling": _ceiling(self.ceiling),
            "offer_valid_days": self.offer_valid_days,
            "rules": [_rule(rule) for rule in self.rules],
            "cases": [dict(case) for case in self.cases],
        }


def threshold_of(raw: object) -> Threshold:
    """A threshold as documents keep it: fractions become decimal text, lists become tuples.

    Raises:
        TypeError, ValueError: where `raw` is neither a JSON scalar nor a list of them.
    """
    plain = without_floats(raw)
    if isinstance(plain, list):
        options = tuple(item for item in plain if isinstance(item, bool | int | str))
        if len(options) != len(plain) or not options:
            raise ValueError("must be a list of at least one value")
        return options
    if plain is None or isinstance(plain, dict):
        raise ValueError("must be a value or a list of values")
    return plain


def _text(text: Text) -> Json:
    return {"en": text.en, "zh": text.zh}


def _product(product: Product) -> Json:
    return {
        "retention_class": product.retention_class.value,
        "minimum_amount": product.minimum_amount,
        "product_cap": product.product_cap,
        "legal_cap": product.legal_cap,
        "rounding_unit": product.rounding_unit,
        "term_months": {"minimum": product.term_minimum, "maximum": product.term_maximum},
        "mandatory": list(product.mandatory),
    }


def _attribute(attribute: Attribute) -> Json:
    return {
        "name": attribute.name,
        "kind": attribute.kind.value,
        "scale": attribute.scale,
        "minimum": attribute.minimum,
        "maximum": attribute.maximum,
        "choices": list(attribute.choices),
        "ordered": attribute.ordered,
        "source": attribute.source.value,
    }


def _ceiling(ceiling: CeilingPolicy) -> Json:
    return {
        "code": ceiling.code,
        "priority": ceiling.priority,
        "effect": ceiling.effect.value,
        "below_minimum_effect": ceiling.below_minimum_effect.value,
        "if_inputs_missing": ceiling.if_inputs_missing.document(),
        "tier_cap": dict(ceiling.tier_cap),
        "income_multiple": {tier: _hundredths(value) for tier, value in ceiling.income_multiple_hundredths.items()},
        "dti_max_pct": {tier: _hundredths(value) for tier, value in ceiling.dti_max_bps.items()},
        "reasons": {cap: _text(text) for cap, text in ceiling.reasons.items()},
        "missing_reason": _text(ceiling.missing_reason),
    }


def _hundredths(value: int | None) -> Json:
    if value is None:
        return None
    whole, rest = divmod(value, 100)
    return f"{whole}.{rest:02d}" if rest else whole


def _rule(rule: Rule) -> Json:
    return {
        "code": rule.code,
        "when": [
            {
                "field": condition.field,
                "op": condition.op.value,
                "value": _threshold(condition.value),
                "if_missing": condition.if_missing.document(),
            }
            for condition in rule.when
        ],
        "field": rule.field,
        "op": rule.op.value,
        "thresholds": {tier: _threshold(value) for tier, value in rule.thresholds.items()},
        "effect": _effects(rule.effect),
        "if_missing": None if rule.if_missing is None else rule.if_missing.document(),
        "priority": rule.priority,
        "confidential": rule.confidential,
        "reason": _text(rule.reason),
        "missing_reason": None if rule.missing_reason is None else _text(rule.missing_reason),
    }


def _effects(effects: Mapping[str, Effect]) -> Json:
    """One effect where all tiers share it, as authors write it."""
    distinct = set(effects.values())
    return distinct.pop().value if len(distinct) == 1 else {tier: effect.value for tier, effect in effects.items()}


def _threshold(value: Threshold | None) -> Json:
    return list(value) if isinstance(value, tuple) else value
