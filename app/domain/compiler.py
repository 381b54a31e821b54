"""Turns a policy document into what decides, or says everything that is wrong with it.

A document that compiles decides every application that can be read under it: each tier has a threshold, an effect and
notice texts for every rule, fields and operators fit, and what a channel's state forbids is rejected.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from app.domain.canonical import storable
from app.domain.compiled import CompiledPolicy, TierRules, probation_tiers
from app.domain.errors import PolicyError, PolicyProblem
from app.domain.fields import (
    DERIVED_FIELDS,
    INCOME_VERIFICATION,
    MAX_MONEY,
    SETTLEMENT_FIELDS,
    STANDARD_FIELDS,
    Field,
    FieldKind,
    Stage,
    declare_attribute,
)
from app.domain.policy import (
    Attribute,
    Condition,
    Effect,
    IfMissing,
    Op,
    PolicyDocument,
    Rule,
    Threshold,
)
from app.domain.policy_reader import read_policy
from app.domain.reasons import SYSTEM_CODES
from app.domain.requirements import (
    HOLDS,
    CompiledCondition,
    CompiledRule,
    encode_threshold,
    permitted,
    rule_table,
)

_STAGES = tuple(Stage)


def compile_policy(document: object, *, version: int = 0) -> CompiledPolicy:
    """The compiled policy of a document as parsed from JSON or YAML.

    Raises:
        PolicyError: with every fault, each with its row and column.
    """
    problems: list[PolicyProblem] = []
    policy = read_policy(document, problems)
    if policy is None:
        raise PolicyError(tuple(problems))
    return _Compiler(policy, problems).compiled(version)


class _Compiler:
    """Holds what the checks share: the document, its fields and tiers, and the faults found so far."""

    def __init__(self, policy: PolicyDocument, problems: list[PolicyProblem]) -> None:
        self.policy = policy
        self.problems = problems
        self.form_is_sound = not problems
        self.tiers = {tier.code: tier for tier in policy.tiers}
        self.attributes = {
            attribute.name: field for attribute in policy.attributes if (field := self._declared(attribute))
        }
        known = (*STANDARD_FIELDS, *DERIVED_FIELDS, *SETTLEMENT_FIELDS, *self.attributes.values())
        self.fields = {field.name: field for field in known}

    def compiled(self, version: int) -> CompiledPolicy:
        self._check_tiers()
        self._check_products()
        self._check_income()
        self._check_ceiling()
        rules = self._rules()
        self._check_channel_rule()
        self._check_ratio_after_loan()
        if not self.problems and not storable(self.policy.document()):
            self._fault("policy", "", "holds text with control characters or lone surrogates")
        if self.problems:
            raise PolicyError(tuple(self.problems))
        income = self.policy.income
        return CompiledPolicy(
            version=version,
            document=self.policy,
            currency=self.policy.currency,
            tiers=self.tiers,
            strictest_tier=max(self.policy.tiers, key=lambda tier: tier.rank).code,
            products=self.policy.products,
            jurisdictions=None if self.policy.jurisdictions is None else frozenset(self.policy.jurisdictions),
            fields=self.fields,
            attributes=self.attributes,
            consent_required=self.policy.consent_required,
            rules_by_tier={tier: _tier_rules(rules[tier]) for tier in self.tiers},
            counted_pct={
                position: 100
                if position >= INCOME_VERIFICATION.index(income.verified_from)
                else income.haircut_pct[level]
                for position, level in enumerate(INCOME_VERIFICATION)
            },
        )

    def _fault(self, row: str, column: str, detail: str) -> None:
        self.problems.append(PolicyProblem(row=row, column=column, detail=detail))

    # What rules refer to ----------------------------------------------------------------------------------------------

    def _declared(self, attribute: Attribute) -> Field | None:
        row = f"attributes.{attribute.name}"
        if [other.name for other in self.policy.attributes].count(attribute.name) > 1:
            self._fault(row, "name", "is declared more than once")
        minimum = 0 if attribute.minimum is None else attribute.minimum
        maximum = MAX_MONEY if attribute.maximum is None else attribute.maximum
        if minimum > maximum:
            self._fault(row, "minimum", "is above the maximum")
        try:
            return declare_attribute(
                name=attribute.name,
                kind=attribute.kind,
                scale=attribute.scale,
                minimum=minimum,
                maximum=maximum,
                choices=attribute.choices,
                ordered=attribute.ordered,
                source=attribute.source,
            )
        except ValueError as error:
            self._fault(row, "kind", str(error))
            return None

    def _check_tiers(self) -> None:
        if not self.policy.tiers:
            self._fault("policy", "tiers", "must name at least one tier")
        for key in ("code", "rank"):
            seen = [getattr(tier, key) for tier in self.policy.tiers]
            for value in sorted({value for value in seen if seen.count(value) > 1}):
                self._fault("policy", "tiers", f"{key} {value} is used more than once")
        self._known_tier("policy", "default_tier", self.policy.default_tier)
        self._known_tier("policy", "probation.rules_tier", self.policy.probation.rules_tier)
        self._known_tier("policy", "probation.ceiling_tier", self.policy.probation.ceiling_tier)

    def _known_tier(self, row: str, column: str, tier: str) -> None:
        if tier and tier not in self.tiers:
            self._fault(row, column, f"there is no tier {tier}")

    def _each_tier(self, row: str, column: str, given: Collection[str]) -> None:
        """Each tier must be named, and nothing else."""
        for tier in self.tiers:
            if tier not in given:
                self._fault(row, f"{column}.{tier}", "is missing")
        for tier in given:
            self._known_tier(row, f"{column}.{tier}", tier)

    def _check_products(self) -> None:
        if not self.policy.products:
            self._fault("products", "", "must name at least one product")
        for product in self.policy.products.values():
            row = f"products.{product.code}"
            if product.minimum_amount > product.product_cap:
                self._fault(row, "minimum_amount", "is above the product cap")
            if product.term_minimum > product.term_maximum:
                self._fault(row, "term_months.minimum", "is above the maximum")
            for name in product.mandatory:
                if self.fields.get(name) is None or self.fields[name].stage is not Stage.REQUEST:
                    self._fault(row, "mandatory", f"there is no field {name} in a request")

    def _check_income(self) -> None:
        income = self.policy.income
        if income.verified_from not in INCOME_VERIFICATION:
            if income.verified_from:
                self._fault("income", "verified_from", f"must be one of {', '.join(INCOME_VERIFICATION)}")
            return
        weaker = INCOME_VERIFICATION[: INCOME_VERIFICATION.index(income.verified_from)]
        for level in weaker:
            if level not in income.haircut_pct:
                self._fault("income", f"haircut_pct.{level}", "is missing")
        for level in income.haircut_pct:
            if level not in weaker:
                self._fault("income", f"haircut_pct.{level}", f"is no level below {income.verified_from}")

    def _check_ceiling(self) -> None:
        ceiling = self.policy.ceiling
        self._each_tier("ceiling", "tier_cap", ceiling.tier_cap)
        self._each_tier("ceiling", "income_multiple", ceiling.income_multiple_hundredths)
        self._each_tier("ceiling", "dti_max_pct", ceiling.dti_max_bps)
        if ceiling.effect is Effect.REJECT and ceiling.below_minimum_effect is not Effect.REJECT:
            self._fault("ceiling", "below_minimum_effect", "is milder than the effect of a ceiling that can be offered")

    # Rules ------------------------------------------------------------------------------------------------------------

    def _rules(self) -> Mapping[str, tuple[CompiledRule, ...]]:
        codes = [rule.code for rule in self.policy.rules] + [self.policy.ceiling.code]
        for code in sorted({code for code in codes if code and codes.count(code) > 1}):
            self._fault(code, "code", "is used more than once")
        for code in sorted(set(codes) & set(SYSTEM_CODES)):
            self._fault(code, "code", "is reserved for the gate itself")
        compiled: dict[str, list[CompiledRule]] = {tier: [] for tier in self.tiers}
        for rule in self.policy.rules:
            for tier, row in self._rule(rule).items():
                compiled[tier].append(row)
        return {tier: tuple(rows) for tier, rows in compiled.items()}

    def _rule(self, rule: Rule) -> dict[str, CompiledRule]:
        self._each_tier(rule.code, "thresholds", rule.thresholds)
        self._each_tier(rule.code, "effect", rule.effect)
        conditions = tuple(self._condition(rule, i, condition) for i, condition in enumerate(rule.when))
        field = self._field(rule.code, "field", rule.field)
        if field is None or not self._permitted(rule.code, "op", field, rule.op):
            return {}
        when = tuple(condition for condition in conditions if condition is not None)
        fields = (field, *(condition.field for condition in when))
        stage = max((each.stage for each in fields), key=_STAGES.index)
        if stage is Stage.SETTLEMENT and Effect.REJECT in self._effects(rule):
            self._fault(rule.code, "effect", "must escalate: what only the transaction knows cannot reject")
        rows = {}
        for tier, raw in rule.thresholds.items():
            if raw is None or tier not in self.tiers or tier not in rule.effect:
                continue
            threshold = self._threshold(rule.code, f"thresholds.{tier}", field, rule.op, raw)
            if threshold is None:
                continue
            rows[tier] = CompiledRule(
                code=rule.code,
                field=field,
                op=rule.op,
                holds=HOLDS[rule.op],
                threshold=threshold,
                threshold_shown=list(raw) if isinstance(raw, tuple) else _shown(field, rule.op, threshold),
                effect=rule.effect[tier],
                if_missing=rule.if_missing or IfMissing(default=rule.effect[tier], by_cause={}),
                when=when,
                priority=rule.priority,
                confidential=rule.confidential,
                reason=rule.reason,
                missing_reason=rule.missing_reason or rule.reason,
                stage=stage,
                fields=frozenset(each.name for each in fields),
            )
        return rows

    def _effects(self, rule: Rule) -> set[Effect]:
        missing = rule.if_missing
        adverse = set(rule.effect.values()) | {condition.if_missing.default for condition in rule.when}
        return adverse if missing is None else adverse | {missing.default, *missing.by_cause.values()}

    def _condition(self, rule: Rule, position: int, condition: Condition) -> CompiledCondition | None:
        column = f"when[{position}]"
        field = self._field(rule.code, f"{column}.field", condition.field)
        if field is None or not self._permitted(rule.code, f"{column}.op", field, condition.op):
            return None
        threshold = self._threshold(rule.code, f"{column}.value", field, condition.op, condition.value)
        if threshold is None:
            return None
        return CompiledCondition(
            field=field,
            op=condition.op,
            holds=HOLDS[condition.op],
            threshold=threshold,
            if_missing=condition.if_missing,
        )

    def _field(self, row: str, column: str, name: str) -> Field | None:
        field = self.fields.get(name)
        if field is None:
            self._fault(row, column, f"there is no field {name}")
        return field

    def _permitted(self, row: str, column: str, field: Field, op: Op) -> bool:
        allowed = permitted(field)
        if op in allowed:
            return True
        names = ", ".join(each.value for each in Op if each in allowed)
        kind = "an unordered choice" if field.kind is FieldKind.CHOICE else f"a {field.kind.value} field"
        self._fault(row, column, f"{op.value} makes no sense on {kind}; it takes {names}")
        return False

    def _threshold(
        self, row: str, column: str, field: Field, op: Op, raw: Threshold
    ) -> int | str | frozenset[int | str] | None:
        try:
            threshold = encode_threshold(field, op, raw)
        except ValueError as error:
            self._fault(row, column, str(error))
            return None
        allowed = {"product": self.policy.products, "jurisdiction": self.policy.jurisdictions}.get(field.name)
        if allowed is not None and op is not Op.KNOWN:
            for value in threshold if isinstance(threshold, frozenset) else (threshold,):
                if value not in allowed:
                    self._fault(row, column, f"the policy has no {field.name} {value}")
        return threshold

    # What must hold of the table as a whole ---------------------------------------------------------------------------

    def _check_channel_rule(self) -> None:
        """What comes through a channel that is not served must be rejected, whatever else the table says."""
        if not self.form_is_sound:
            return
        for tier in self.tiers:
            if not any(
                rule.field == "channel.served"
                and rule.op is Op.IS
                and rule.thresholds.get(tier) is True
                and rule.effect.get(tier) is Effect.REJECT
                and not rule.when
                for rule in self.policy.rules
            ):
                self._fault("policy", "rules", f"no rule rejects for {tier} where channel.served is not true")

    def _check_ratio_after_loan(self) -> None:
        """A loan at the ceiling must pass the rules on the debt ratio after the loan, or no offer could be kept."""
        pairs = {(tier, tier) for tier in self.tiers}
        pairs |= {probation_tiers(self.policy, self.tiers, tier) for tier in (None, *self.tiers)}
        for rule in self.policy.rules:
            field = self.fields.get(rule.field)
            if field is None or field.stage is not Stage.CEILING or rule.op is Op.KNOWN:
                continue
            if rule.op is not Op.AT_MOST:
                self._fault(rule.code, "op", f"{rule.field} takes at_most or known")
                continue
            for rules_tier, ceiling_tier in sorted(pairs):
                self._check_pair(rule, field, rules_tier, ceiling_tier)

    def _check_pair(self, rule: Rule, field: Field, rules_tier: str, ceiling_tier: str) -> None:
        raw = rule.thresholds.get(rules_tier)
        if raw is None or isinstance(raw, tuple):
            return
        try:
            limit = field.encode(raw)
        except ValueError:
            return  # said already, with the rule
        maximum = self.policy.ceiling.dti_max_bps.get(ceiling_tier)
        if maximum is None or maximum > int(limit):
            column = f"thresholds.{rules_tier}"
            state = "has no value" if maximum is None else "is above it"
            detail = (
                f"a loan at the ceiling could fail it, because the ceiling's dti_max_pct for {ceiling_tier} {state}"
            )
            self._fault(rule.code, column, detail)


def _tier_rules(rules: tuple[CompiledRule, ...]) -> TierRules:
    by_stage = {stage: tuple(rule for rule in rules if rule.stage is stage) for stage in Stage}
    settlement = by_stage[Stage.SETTLEMENT]
    return TierRules(
        request=rule_table(by_stage[Stage.REQUEST]),
        ceiling=rule_table(by_stage[Stage.CEILING]),
        settlement=settlement,
        settlement_codes=tuple(rule.code for rule in settlement),
    )


def _shown(field: Field, op: Op, threshold: int | str | frozenset[int | str]) -> bool | int | str | None:
    if isinstance(threshold, frozenset):
        return None
    return True if op is Op.KNOWN else field.display(threshold)
