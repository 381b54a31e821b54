"""Says what is odd about a policy that compiles: rules that never act, that others make useless, tiers out of order.

Everything said is proven over all applications that the policy reads, never guessed: a rule that is called dead never
gives a reason, and leaving out one that is called shadowed changes no outcome and no offer. The reverse does not hold:
what links two fields (an age and a birth date) is not known here, so a dead rule may go unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from app.domain.compiled import CompiledPolicy
from app.domain.fields import Stage
from app.domain.lint_ceiling import ceiling_findings
from app.domain.lint_findings import Code, FieldUsage, Finding
from app.domain.lint_rules import SEVERITY, TierRule, covers, tier_rules
from app.domain.policy import Op, Rule

__all__ = ["Code", "FieldUsage", "Finding", "lint"]

MIN_APPLICATIONS = 100
"""With fewer applications than this in the log, a field that none of them carried says nothing."""

_DERIVED_FROM: Mapping[str, tuple[frozenset[str], ...]] = {
    "applicant.age_years": (frozenset({"applicant.birth_date"}), frozenset({"applicant.age_years"})),
    "bureau.age_days": (frozenset({"bureau.pulled_at"}),),
    "existing_dti_pct": (frozenset({"applicant.monthly_income", "applicant.monthly_obligations"}),),
    "dti_after_loan_pct": (frozenset({"applicant.monthly_income", "applicant.monthly_obligations", "all_in_apr_pct"}),),
}
"""What an application must carry, one of these sets whole, for the gate to know a field that it derives."""


def lint(policy: CompiledPolicy, *, carried: FieldUsage | None = None) -> tuple[Finding, ...]:
    """Every finding, errors first, then in the order of the document.

    `carried` is what recent applications carried; without it, nothing is said about unused fields.
    """
    linter = _Linter(policy)
    found = [*linter.findings(), *ceiling_findings(policy)]
    if carried is not None:
        found += _not_carried(policy, carried)
    return tuple(sorted(found, key=lambda finding: finding.severity != "error"))


@dataclass(slots=True)
class _Linter:
    policy: CompiledPolicy

    def findings(self) -> Iterator[Finding]:
        rules = self.policy.document.rules
        by_rank = [tier.code for tier in sorted(self.policy.tiers.values(), key=lambda tier: tier.rank)]
        compiled = {tier: tier_rules(self.policy, tier) for tier in by_rank}
        for rule in rules:
            rows = {tier: row for tier in by_rank if (row := compiled[tier].get(rule.code)) is not None}
            yield from _reach(rule, rows)
            yield from _texts(rule)
            yield from _order(rule, by_rank, rows)
        yield from _duplicates(rules)
        yield from _shadowed(rules, by_rank, compiled)
        yield from self._unread_mandatory()

    def _unread_mandatory(self) -> Iterator[Finding]:
        if any(rule.field == "application.missing_fields" for rule in self.policy.document.rules):
            return
        for product in self.policy.products.values():
            if product.mandatory:
                detail = "has no effect: no rule reads application.missing_fields"
                yield Finding(Code.MANDATORY_UNREAD, f"products.{product.code}", "mandatory", detail)


# Whether a rule can act -----------------------------------------------------------------------------------------------


def _reach(rule: Rule, rows: Mapping[str, TierRule]) -> Iterator[Finding]:
    if not rows:
        yield Finding(Code.NEVER_FIRES, rule.code, "thresholds", "applies to no tier: every threshold is null")
        return
    dead = {tier: why for tier, row in rows.items() if (why := row.why_dead()) is not None}
    if len(dead) == len(rows):
        column, detail = next(iter(dead.values()))
        code = Code.CONTRADICTION if column == "when" else Code.NEVER_FIRES
        yield Finding(code, rule.code, column, detail)
        return
    for tier, (_, detail) in dead.items():
        yield Finding(Code.TIER_NEVER_FIRES, rule.code, f"thresholds.{tier}", detail)
    alive = {tier: row for tier, row in rows.items() if tier not in dead}
    if rule.op is not Op.KNOWN and not dead and all(row.only_unknown for row in alive.values()):
        detail = f"every value of {rule.field} passes, so it acts only where that is unknown: write `known`"
        yield Finding(Code.ONLY_UNKNOWN, rule.code, "thresholds", detail)
    for tier, row in alive.items():
        if row.always_fires:
            detail = f"fails for every application, so {tier} accepts none"
            yield Finding(Code.ALWAYS_FIRES, rule.code, f"thresholds.{tier}", detail)


def _texts(rule: Rule) -> Iterator[Finding]:
    """The compiler refuses such a rule already; what reaches an applicant is looked at twice."""
    for column, text in (("reason", rule.reason), ("missing_reason", rule.missing_reason)):
        for language in ("en", "zh"):
            if text is not None and not getattr(text, language).strip():
                yield Finding(Code.NO_TEXT, rule.code, f"{column}.{language}", "has no notice text")


# Whether tiers are in order -------------------------------------------------------------------------------------------


def _order(rule: Rule, by_rank: Sequence[str], rows: Mapping[str, TierRule]) -> Iterator[Finding]:
    """What fails in a better tier must fail in the next worse one, with an effect that is no milder."""
    for better, worse in pairwise(by_rank):
        strict, row = rows.get(better), rows.get(worse)
        if strict is None:
            continue
        column = f"thresholds.{worse}"
        if row is None:
            yield Finding(
                Code.NOT_MONOTONE, rule.code, column, f"applies to {better} and not to {worse}, which is the worse tier"
            )
        elif not strict.fails_within(row):
            shown = f"{worse} is laxer than {better}, which is the better tier"
            yield Finding(Code.NOT_MONOTONE, rule.code, column, shown)
        if row is not None and SEVERITY[row.rule.effect[worse]] < SEVERITY[strict.rule.effect[better]]:
            detail = f"{worse} is milder than {better}, which is the better tier"
            yield Finding(Code.EFFECT_NOT_MONOTONE, rule.code, f"effect.{worse}", detail)


# Whether a rule is needed beside the others ---------------------------------------------------------------------------


def _duplicates(rules: Sequence[Rule]) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for rule in rules:
        what = repr((rule.when, rule.field, rule.op, rule.thresholds, rule.effect, rule.if_missing))
        if what in seen:
            yield Finding(Code.DUPLICATE, rule.code, "", f"says the same as {seen[what]}")
        seen.setdefault(what, rule.code)


def _shadowed(
    rules: Sequence[Rule], by_rank: Sequence[str], compiled: Mapping[str, Mapping[str, TierRule]]
) -> Iterator[Finding]:
    repeated = {finding.row for finding in _duplicates(rules)}
    position = {rule.code: number for number, rule in enumerate(rules)}
    for rule in rules:
        rows = {tier: compiled[tier][rule.code] for tier in by_rank if rule.code in compiled[tier]}
        alive = {tier: row for tier, row in rows.items() if row.why_dead() is None}
        if not alive or rule.code in repeated:
            continue
        covered_by: dict[str, str] = {}
        for tier, row in alive.items():
            for other in compiled[tier].values():
                if other is row or not covers(other, row):
                    continue
                if not covers(row, other) or position[other.rule.code] < position[rule.code]:
                    covered_by[tier] = other.rule.code
                    break
        if len(covered_by) == len(alive):
            codes = ", ".join(dict.fromkeys(covered_by.values()))
            yield Finding(
                Code.SHADOWED, rule.code, "", f"changes no outcome: wherever it acts, {codes} acts as severely"
            )
        else:
            for tier, code in covered_by.items():
                detail = f"changes no outcome in {tier}: wherever it acts there, {code} acts as severely"
                yield Finding(Code.SHADOWED, rule.code, f"thresholds.{tier}", detail)


# Whether applications carry what is asked of them ---------------------------------------------------------------------


def _not_carried(policy: CompiledPolicy, usage: FieldUsage) -> Iterator[Finding]:
    if usage.applications < MIN_APPLICATIONS:
        return
    asked: list[tuple[str, str, str]] = []
    for rule in policy.document.rules:
        asked.append((rule.code, "field", rule.field))
        asked += [(rule.code, f"when[{i}].field", condition.field) for i, condition in enumerate(rule.when)]
    for product in policy.products.values():
        asked += [(f"products.{product.code}", "mandatory", name) for name in product.mandatory]
    terms = policy.ceiling
    for column, caps, needed in (
        ("income_multiple", terms.income_multiple_hundredths, ("applicant.monthly_income",)),
        ("dti_max_pct", terms.dti_max_bps, tuple(sorted(_DERIVED_FROM["dti_after_loan_pct"][0]))),
    ):
        if any(cap is not None for cap in caps.values()):
            asked += [("ceiling", column, name) for name in needed]
    for row, column, name in dict.fromkeys(asked):
        field = policy.fields[name]
        if field.stage is Stage.SETTLEMENT or name in {"channel.served", "application.missing_fields"}:
            continue
        options = _DERIVED_FROM.get(name, (frozenset({name}),))
        if not any(all(usage.carried.get(each, 0) for each in option) for option in options):
            detail = f"none of {usage.applications} applications of the last {usage.days} days carried {name}"
            yield Finding(Code.NOT_CARRIED, row, column, detail)
