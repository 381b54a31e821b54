"""The columns of a decision to decide again: their names and Arrow types, and the digest of what they mean.

A column holds what the request said and not what a policy made of it, so that any draft can read it: standard fields
at the scale that the domain declares for them, a lender's own attributes as they were written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pyarrow as pa

from app.domain.canonical import canonical_bytes, digest
from app.domain.fields import SETTLEMENT_FIELDS, STANDARD_FIELDS, Field, FieldKind
from app.domain.record import ENGINE

LAYOUT: Final = 1
"""Raised by a change of what the columns hold."""

TEXT: Final = pa.dictionary(pa.int32(), pa.string())
ATTRIBUTE_PARTS: Final = {"number": pa.int64(), "decimals": pa.int8(), "text": TEXT, "flag": pa.bool_()}
"""How an attribute is held: a JSON number as whole number and count of decimals, or text, or a flag."""

_CONTEXT: Final = {
    "row_id": pa.binary(),
    "decided_at": pa.int64(),
    "readable": pa.bool_(),
    "erased": pa.bool_(),
    "malformed": pa.bool_(),
    "channel_code": TEXT,
    "channel_state": TEXT,
    "served": pa.bool_(),
    "assigned_tier": TEXT,
    "tier": TEXT,
    "policy_version": pa.int32(),
    "outcome": TEXT,
    "next_action": TEXT,
    "ceiling_amount": pa.int64(),
    "offered_amount": pa.int64(),
    "reason_codes": TEXT,
    "repaid": pa.bool_(),
    "consent": pa.bool_(),
    "currency": TEXT,
    "bureau.pulled_at": pa.int64(),
    "unknown": TEXT,
    "null_attributes": TEXT,
}
"""Instants are microseconds since 1970, UTC. `unknown` are the stated causes and `null_attributes` the attributes that
were given as null, each as one text. `assigned_tier` is the channel's own tier, null where it had the policy's default.
"""

CONTEXT_COLUMNS: Final = tuple(_CONTEXT)
_KINDS = {FieldKind.BOOLEAN: pa.bool_(), FieldKind.TEXT: TEXT}


def field_type(field: Field) -> pa.DataType:
    """The Arrow type of a standard field or a fact: flags, texts as codes, and everything else as a whole number."""
    return _KINDS.get(field.kind, pa.int64())


def attribute_columns(name: str) -> dict[str, pa.DataType]:
    """The columns of an attribute."""
    return {f"attributes.{name}#{part}": kind for part, kind in ATTRIBUTE_PARTS.items()}


def arrow_schema(attributes: Iterable[str]) -> pa.Schema:
    """Every column, with those of these attributes."""
    columns = dict(_CONTEXT)
    columns |= {field.name: field_type(field) for field in (*STANDARD_FIELDS, *SETTLEMENT_FIELDS)}
    for name in sorted(attributes):
        columns |= attribute_columns(name)
    return pa.schema(list(columns.items()), metadata={"layout": layout_digest()})


def attributes_in(columns: Iterable[str]) -> tuple[str, ...]:
    """The attributes that some columns belong to."""
    named = (name.removeprefix("attributes.").partition("#")[0] for name in columns if name.startswith("attributes."))
    return tuple(dict.fromkeys(named))


def layout_digest() -> str:
    """Of everything that gives the columns their meaning: a file that has another one is made again."""
    declared = [
        [field.name, field.kind.value, field.scale, field.minimum, field.maximum, list(field.choices)]
        for field in (*STANDARD_FIELDS, *SETTLEMENT_FIELDS)
    ]
    columns = [[name, str(kind)] for name, kind in (_CONTEXT | ATTRIBUTE_PARTS).items()]
    return digest(canonical_bytes([LAYOUT, ENGINE, columns, declared])).hex()
