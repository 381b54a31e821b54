"""The JSON Schema of a policy document, for editors: draft 2020-12, made from the reader's own limits.

It takes what the reader takes, as far as JSON Schema can say. What only the whole document shows (that every tier has
a threshold, that a field exists, that the ceiling and the rules fit) the check says.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, TypeAlias

from app.domain.application import REPORTABLE_CAUSES
from app.domain.cases import CASE_STATES
from app.domain.fields import (
    DERIVED_FIELDS,
    INCOME_VERIFICATION,
    MAX_MONEY,
    SETTLEMENT_FIELDS,
    STANDARD_FIELDS,
    FieldKind,
    Source,
    Stage,
)
from app.domain.policy import Effect, Op, RetentionClass
from app.domain.policy_reader import (
    CAPS,
    MAX_ATTRIBUTES,
    MAX_CASES,
    MAX_CONDITIONS,
    MAX_DTI_BPS,
    MAX_INCOME_MULTIPLE_HUNDREDTHS,
    MAX_PRIORITY,
    MAX_PRODUCTS,
    MAX_RULES,
    MAX_TIERS,
)
from app.domain.reasons import NextAction, Outcome
from app.domain.requirements import permitted

Schema: TypeAlias = "dict[str, Any]"

DIALECT = "https://json-schema.org/draft/2020-12/schema"
IDENTIFIER, RULE_CODE = "^[a-z][a-z0-9_]{0,63}$", "^[A-Z][A-Z0-9_]{1,31}$"
_REQUEST_FIELDS = [field for field in (*STANDARD_FIELDS, *DERIVED_FIELDS) if field.stage is Stage.REQUEST]
_TEXT = "^(?=[\\s\\S]*\\S)[^\\u0000-\\u001f\\u007f]*$"


def policy_schema() -> Schema:
    """The schema as a document of its own."""
    return {
        "$schema": DIALECT,
        "title": "Channel Gate policy",
        "description": "The rule table, the ceilings and the products, for every tier.",
        **_object(
            {
                "$schema": {"type": "string", "description": "Where this schema is, for editors. Not kept."},
                "name": _ref("text"),
                "currency": {"type": "string", "pattern": "^[A-Z]{3}$", "description": "ISO 4217."},
                "tiers": {"type": "array", "minItems": 1, "maxItems": MAX_TIERS, "items": _ref("tier")},
                "default_tier": _ref("identifier"),
                "probation": _object({"rules_tier": _ref("identifier"), "ceiling_tier": _ref("identifier")}),
                "consent_required": {"type": "boolean"},
                "jurisdictions": {
                    "anyOf": [
                        {"type": "null"},
                        {
                            "type": "array",
                            "minItems": 1,
                            "uniqueItems": True,
                            "items": {"type": "string", "pattern": "^[A-Z0-9-]{2,16}$"},
                        },
                    ]
                },
                "products": _map(_ref("product"), IDENTIFIER) | {"minProperties": 1, "maxProperties": MAX_PRODUCTS},
                "attributes": _rows("attribute", MAX_ATTRIBUTES),
                "income": _object({"verified_from": _enum(INCOME_VERIFICATION), "haircut_pct": _haircut()}),
                "ceiling": _ref("ceiling"),
                "offer_valid_days": _integer(1, 365),
                "rules": _rows("rule", MAX_RULES),
                "cases": _rows("case", MAX_CASES),
            },
            optional=("$schema", "jurisdictions", "attributes", "cases"),
        ),
        "$defs": {
            "text": {"type": "string", "minLength": 1, "maxLength": 500, "pattern": _TEXT},
            "identifier": {"type": "string", "pattern": IDENTIFIER},
            "code": {"type": "string", "pattern": RULE_CODE},
            "bilingual": _object({"en": _ref("text"), "zh": _ref("text")}),
            "adverse": _enum((Effect.REJECT, Effect.ESCALATE)),
            "if_missing": _if_missing(),
            "value": {"type": ["boolean", "number", "string"]},
            "values": {"type": "array", "minItems": 1, "items": _ref("value")},
            "mandatory_field": {"anyOf": [_enum(_names(_REQUEST_FIELDS)), _attribute_name()]},
            "field": {
                "anyOf": [_enum(_names((*STANDARD_FIELDS, *DERIVED_FIELDS, *SETTLEMENT_FIELDS))), _attribute_name()]
            },
            "tier": _object({"code": _ref("identifier"), "rank": _integer(1, MAX_TIERS), "name": _ref("bilingual")}),
            "product": _product(),
            "attribute": _attribute(),
            "ceiling": _ceiling(),
            "condition": _condition(),
            "rule": _rule(),
            "case": _case(),
        },
    }


# Sections -------------------------------------------------------------------------------------------------------------


def _product() -> Schema:
    return _object(
        {
            "retention_class": _enum(RetentionClass),
            "minimum_amount": _integer(1, MAX_MONEY),
            "product_cap": _integer(1, MAX_MONEY),
            "legal_cap": _or_null(_integer(1, MAX_MONEY)),
            "rounding_unit": _integer(1, MAX_MONEY),
            "term_months": _object({"minimum": _integer(1, 480), "maximum": _integer(1, 480)}),
            "mandatory": {"type": "array", "items": _ref("mandatory_field")},
        },
        optional=("mandatory",),
    )


def _attribute() -> Schema:
    bound = _or_null(_integer(-MAX_MONEY, MAX_MONEY))
    kinds = [kind for kind in FieldKind if kind is not FieldKind.RATIO]
    choices = {"type": "array", "uniqueItems": True, "items": _ref("text")}
    schema = _object(
        {
            "name": _ref("identifier"),
            "kind": _enum(kinds),
            "scale": _integer(0, 6),
            "minimum": bound,
            "maximum": bound,
            "choices": choices,
            "ordered": {"type": "boolean"},
            "source": _enum(Source),
        },
        optional=("scale", "minimum", "maximum", "choices", "ordered", "source"),
    )
    is_choice = {"properties": {"kind": {"const": FieldKind.CHOICE.value}}, "required": ["kind"]}
    with_choices = {"required": ["choices"], "properties": {"choices": {"minItems": 1}}}
    return schema | {"if": is_choice, "then": with_choices, "else": {"properties": {"choices": {"maxItems": 0}}}}


def _haircut() -> Schema:
    levels = INCOME_VERIFICATION[:-1]
    return _object(dict.fromkeys(levels, _or_null(_integer(0, 100))), optional=levels)


def _ceiling() -> Schema:
    return _object(
        {
            "code": _ref("code"),
            "priority": _integer(0, MAX_PRIORITY),
            "effect": _ref("adverse"),
            "below_minimum_effect": _ref("adverse"),
            "if_inputs_missing": _ref("if_missing"),
            "tier_cap": _map(_or_null(_integer(1, MAX_MONEY)), IDENTIFIER),
            "income_multiple": _map(_or_null(_hundredths(MAX_INCOME_MULTIPLE_HUNDREDTHS)), IDENTIFIER),
            "dti_max_pct": _map(_or_null(_hundredths(MAX_DTI_BPS)), IDENTIFIER),
            "reasons": _object(dict.fromkeys(CAPS, _ref("bilingual"))),
            "missing_reason": _ref("bilingual"),
        }
    )


def _condition() -> Schema:
    columns = {
        "field": _ref("field"),
        "op": _enum(Op),
        "value": {"anyOf": [_ref("value"), _ref("values")]},
        "if_missing": _ref("if_missing"),
    }
    return _object(columns, optional=("if_missing",)) | {"allOf": [*_ops_of_fields(), *_values_of_ops("value")]}


def _rule() -> Schema:
    columns = {
        "code": _ref("code"),
        "when": {"type": "array", "maxItems": MAX_CONDITIONS, "items": _ref("condition")},
        "field": _ref("field"),
        "op": _enum(Op),
        "thresholds": _map({"anyOf": [{"type": "null"}, _ref("value"), _ref("values")]}, IDENTIFIER),
        "effect": {"anyOf": [_ref("adverse"), _map(_ref("adverse"), IDENTIFIER)]},
        "if_missing": _or_null(_ref("if_missing")),
        "priority": _integer(0, MAX_PRIORITY),
        "confidential": {"type": "boolean"},
        "reason": _ref("bilingual"),
        "missing_reason": _or_null(_ref("bilingual")),
    }
    schema = _object(columns, optional=("when", "confidential", "if_missing", "missing_reason"))
    decidable = {"if_missing": {"not": {"type": "null"}}, "missing_reason": {"not": {"type": "null"}}}
    needs_both: Schema = {
        "if": {"properties": {"op": {"const": Op.KNOWN.value}}, "required": ["op"]},
        "else": {"required": list(decidable), "properties": decidable},
    }
    return schema | {"allOf": [needs_both, *_ops_of_fields(), *_values_of_ops("thresholds")]}


def _ops_of_fields() -> list[Schema]:
    """Which operators a field of the gate takes; those of a lender's own attributes the check says."""
    fields = [
        (sorted(permitted(field)), field.name) for field in (*STANDARD_FIELDS, *DERIVED_FIELDS, *SETTLEMENT_FIELDS)
    ]
    return [
        {
            "if": {"properties": {"field": {"enum": [name for _, name in group]}}, "required": ["field"]},
            "then": {"properties": {"op": _enum(ops)}},
        }
        for ops, group in groupby(sorted(fields), key=lambda each: each[0])
        if len(ops) < len(Op)
    ]


def _values_of_ops(column: str) -> list[Schema]:
    """A list for list operators, true for `known`, else one value; in a rule for each tier, or null."""

    def wanted(kind: Schema) -> Schema:
        return {"properties": {column: kind if column == "value" else {"additionalProperties": _or_null(kind)}}}

    return [
        {"if": {"properties": {"op": {"enum": ops}}, "required": ["op"]}, "then": wanted(kind)}
        for ops, kind in (
            (["one_of", "none_of"], _ref("values")),
            (["known"], {"const": True}),
            ([op.value for op in Op if op not in {Op.ONE_OF, Op.NONE_OF, Op.KNOWN}], _ref("value")),
        )
    ]


def _case() -> Schema:
    amount = _or_null(_integer(0, MAX_MONEY))
    expectation = _object(
        {
            "outcome": _enum(Outcome),
            "next_action": _enum(NextAction),
            "codes": {"type": "array", "uniqueItems": True, "items": {"type": "string"}},
            "ceiling": amount,
            "counter_offer": amount,
        },
        optional=("outcome", "next_action", "codes", "ceiling", "counter_offer"),
    )
    facts = {name: {"type": ["integer", "boolean"]} for name in _names(SETTLEMENT_FIELDS)}
    return _object(
        {
            "name": {"type": "string"},
            "at": {"type": "string", "description": "The moment of the decision, with its UTC offset."},
            "application": {"type": "object", "description": "As the service takes it."},
            "channel": _object({"state": _enum(CASE_STATES)}, optional=("state",)),
            "facts": _object(facts, optional=tuple(facts)),
            "expected": _map(expectation, IDENTIFIER) | {"minProperties": 1},
        },
        optional=("name", "channel", "facts"),
    )


# Shapes ---------------------------------------------------------------------------------------------------------------


def _object(columns: dict[str, Schema], optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in columns if name not in optional]
    return {"type": "object", "properties": columns, "required": required, "additionalProperties": False}


def _map(values: Schema, keys: str) -> Schema:
    return {"type": "object", "propertyNames": {"pattern": keys}, "additionalProperties": values}


def _rows(kind: str, limit: int) -> Schema:
    return {"type": "array", "maxItems": limit, "items": _ref(kind)}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _enum(members: Any) -> Schema:
    return {"enum": [getattr(member, "value", member) for member in members]}


def _integer(minimum: int, maximum: int) -> Schema:
    return {"type": "integer", "minimum": minimum, "maximum": maximum}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _hundredths(maximum: int) -> Schema:
    """A number above 0 with at most two decimals, or the same as text."""
    text = {"type": "string", "pattern": "^[0-9]{1,18}(\\.[0-9]{1,2}0*)?$"}
    return {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": maximum // 100}, text]}


def _if_missing() -> Schema:
    effect = _enum(Effect)
    causes = {cause.value: effect for cause in REPORTABLE_CAUSES}
    return {"anyOf": [effect, _object({**causes, "default": effect}, optional=tuple(causes))]}


def _names(fields: Any) -> list[str]:
    return [field.name for field in fields]


def _attribute_name() -> Schema:
    return {"type": "string", "pattern": "^attributes\\.[a-z][a-z0-9_]{0,63}$"}
