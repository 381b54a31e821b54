"""A policy as tables that a person can read: amounts in whole currency, one column a tier."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from app.domain.compiled import CompiledPolicy
from app.domain.fields import FieldKind
from app.domain.money import minor_unit_exponent
from app.domain.policy import Condition, IfMissing, Op, Rule, Threshold, Tier

_OPS = {
    Op.AT_LEAST: "at least",
    Op.AT_MOST: "at most",
    Op.ABOVE: "above",
    Op.BELOW: "below",
    Op.IS: "is",
    Op.IS_NOT: "is not",
    Op.ONE_OF: "one of",
    Op.NONE_OF: "none of",
    Op.KNOWN: "is known",
}
_NOT_FOR_THIS_TIER = "-"


def print_policy(compiled: CompiledPolicy, console: Console) -> None:
    """Print the heading, the rule table, the ceilings and the products."""
    policy = compiled.document
    tiers = sorted(policy.tiers, key=lambda tier: tier.rank)
    version = f"version {compiled.version}" if compiled.version else "not published"
    console.print(f"{policy.name}, {version}, amounts in {policy.currency}", style="bold")
    console.print(
        f"Channels without a tier: {policy.default_tier}. "
        f"On probation: rules of {policy.probation.rules_tier}, ceiling of {policy.probation.ceiling_tier}. "
        f"Consent {'required' if policy.consent_required else 'not required'}. "
        f"Offers hold {policy.offer_valid_days} days."
    )
    console.print(_rules(compiled, tiers))
    console.print(_ceilings(compiled, tiers))
    console.print(_products(compiled))


def _rules(compiled: CompiledPolicy, tiers: list[Tier]) -> Table:
    table = Table(title="Rules: what must hold", title_justify="left")
    for column in ("code", "requirement"):
        table.add_column(column, overflow="fold")
    for tier in tiers:
        table.add_column(tier.code, justify="right")
    for column in ("else", "if unknown", "reason"):
        table.add_column(column, overflow="fold")
    for rule in compiled.document.rules:
        thresholds = [_shown(compiled, rule.field, rule.thresholds[tier.code]) for tier in tiers]
        requirement = f"{rule.field} {_OPS[rule.op]}"
        if rule.when:
            requirement += "\nwhere " + " and ".join(_condition(compiled, each) for each in rule.when)
        table.add_row(
            rule.code,
            requirement,
            *thresholds,
            _effects(rule, tiers),
            _if_missing(rule.if_missing),
            rule.reason.en + (" (confidential)" if rule.confidential else ""),
        )
    return table


def _ceilings(compiled: CompiledPolicy, tiers: list[Tier]) -> Table:
    ceiling = compiled.document.ceiling
    title = (
        f"Ceiling {ceiling.code}: above it {ceiling.effect}, below the product's minimum {ceiling.below_minimum_effect}"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("cap")
    for tier in tiers:
        table.add_column(tier.code, justify="right")
    rows = {
        "tier cap": {code: _money(compiled, cap) for code, cap in ceiling.tier_cap.items()},
        "times monthly income": {code: _hundredths(cap) for code, cap in ceiling.income_multiple_hundredths.items()},
        "debt ratio after the loan, %": {code: _hundredths(cap) for code, cap in ceiling.dti_max_bps.items()},
    }
    for name, by_tier in rows.items():
        table.add_row(name, *(by_tier[tier.code] for tier in tiers))
    return table


def _products(compiled: CompiledPolicy) -> Table:
    table = Table(title="Products", title_justify="left")
    for column in ("product", "minimum", "cap", "legal cap", "rounded to", "months", "kept as"):
        table.add_column(column, justify="left" if column in {"product", "kept as"} else "right")
    for code, product in compiled.products.items():
        table.add_row(
            code,
            _money(compiled, product.minimum_amount),
            _money(compiled, product.product_cap),
            _money(compiled, product.legal_cap),
            _money(compiled, product.rounding_unit),
            f"{product.term_minimum} to {product.term_maximum}",
            product.retention_class.value,
        )
    return table


def _condition(compiled: CompiledPolicy, condition: Condition) -> str:
    value = "" if condition.op is Op.KNOWN else f" {_shown(compiled, condition.field, condition.value)}"
    return f"{condition.field} {_OPS[condition.op]}{value}"


def _shown(compiled: CompiledPolicy, field: str, value: Threshold | None) -> str:
    if value is None:
        return _NOT_FOR_THIS_TIER
    if isinstance(value, tuple):
        return ", ".join(_shown(compiled, field, item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and compiled.fields[field].kind is FieldKind.MONEY:
        return _money(compiled, value)
    return str(value)


def _money(compiled: CompiledPolicy, amount: int | None) -> str:
    """Minor units as whole currency, with decimals only where there are any."""
    if amount is None:
        return _NOT_FOR_THIS_TIER
    decimals = minor_unit_exponent(compiled.currency)
    whole, rest = divmod(amount, 10**decimals)
    return f"{whole:,}" + (f".{rest:0{decimals}d}" if rest else "")


def _hundredths(value: int | None) -> str:
    if value is None:
        return _NOT_FOR_THIS_TIER
    whole, rest = divmod(value, 100)
    return f"{whole}.{rest:02d}" if rest else str(whole)


def _effects(rule: Rule, tiers: list[Tier]) -> str:
    effects = [rule.effect[tier.code].value for tier in tiers if rule.thresholds[tier.code] is not None]
    return effects[0] if len(set(effects)) == 1 else " / ".join(effects)


def _if_missing(if_missing: IfMissing | None) -> str:
    if if_missing is None:
        return _NOT_FOR_THIS_TIER
    causes = [f"{cause.value}: {effect.value}" for cause, effect in if_missing.by_cause.items()]
    return ", ".join([if_missing.default.value, *causes])
