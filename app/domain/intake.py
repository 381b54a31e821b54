"""Reads an application from a request whose form is right already, and checks it against what the policy declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from app.domain.application import REPORTABLE_CAUSES, LoanApplication, Unknown
from app.domain.canonical import parse_instant
from app.domain.compiled import CompiledPolicy
from app.domain.errors import ApplicationError, ApplicationProblem, ConsentMissingError
from app.domain.fields import MAX_TEXT, STANDARD_FIELDS, Field, FieldKind, Value

SECTIONS = ("applicant", "bureau", "device", "business")
"""The nested objects of a request; every other field stands at its top."""

_PLAIN_INTEGERS = frozenset({FieldKind.NUMBER, FieldKind.MONEY})
_CAUSES = {cause.value: cause for cause in REPORTABLE_CAUSES}
_PULLED_AT = "bureau.pulled_at"
_EARLIEST_YEAR, _LATEST_YEAR = 1970, 2200

_Column = tuple[str, type[int] | type[str] | type[bool] | None, int, int, Callable[[object], Value]]
"""Field name, the type whose values are their own encoding, the range of a number or of a text's length, and the
encoding of everything else."""


def _columns(section: str) -> dict[str, _Column]:
    """The columns of a section by the key that they have in it."""
    prefix = f"{section}." if section else ""
    return {
        field.name.removeprefix(prefix): _column(field)
        for field in STANDARD_FIELDS
        if field.name.rpartition(".")[0] == section
    }


def _column(field: Field) -> _Column:
    if field.kind is FieldKind.TEXT:
        return field.name, str, 1, MAX_TEXT, field.encode
    if field.kind is FieldKind.BOOLEAN:
        return field.name, bool, False, True, field.encode
    plain = int if field.kind in _PLAIN_INTEGERS and field.scale == 0 else None
    return field.name, plain, field.minimum, field.maximum, field.encode


_TOP = _columns("")
_NESTED = tuple((section, f"/{section}/", _columns(section)) for section in SECTIONS)


def read_application(payload: Mapping[str, Any], policy: CompiledPolicy) -> LoanApplication:
    """The application of a request, encoded and checked.

    `payload` has the form of the request schema: sections are mappings or null, numbers are whole, decimal or decimal
    text, instants are aware datetimes or RFC 3339 text. A value is null or absent where it is unknown, and `unknown`
    may name the cause by the field's name.

    Raises:
        ConsentMissingError: where the policy requires consent and there is none.
        ApplicationError: with a JSON pointer for everything that contradicts the policy. Carries no value.
    """
    problems: list[ApplicationProblem] = []
    consent_at = read_instant(payload, "consent_at", "/consent_at", problems)
    if policy.consent_required and payload.get("consent_at") is None:
        raise ConsentMissingError("the policy requires the applicant's consent")
    values: dict[str, Any] = standard_values(payload, problems)
    attributes = payload.get("attributes")
    if attributes:
        _attributes(attributes, policy, values, problems)
    bureau = payload.get("bureau")
    pulled_at = read_instant(bureau, "pulled_at", "/bureau/pulled_at", problems) if bureau else None
    stated = payload.get("unknown")
    unknown = _causes(stated, policy, values, pulled_at, problems) if stated else {}
    _check(payload, values, policy, problems)
    completed_at = read_instant(payload, "completed_at", "/completed_at", problems)
    if problems:
        raise ApplicationError(tuple(problems))
    return LoanApplication(
        application_id=payload["application_id"],
        revision=payload.get("revision") or 1,
        channel_code=payload["channel_code"],
        product=values["product"],
        jurisdiction=values.get("jurisdiction"),
        amount=values["amount"],
        currency=payload["currency"],
        term_months=values["term_months"],
        applicant_ref=values.get("applicant.applicant_ref"),
        completed_at=completed_at,
        consent_at=consent_at,
        bureau_pulled_at=pulled_at,
        values=values,
        unknown=unknown,
    )


def standard_values(payload: Mapping[str, Any], problems: list[ApplicationProblem]) -> dict[str, Value]:
    """What a request says of the fields that every policy knows, encoded. What does not fit a field is a problem."""
    values: dict[str, Value] = {}
    _encode(payload, _TOP, "/", values, problems)
    for section, pointer, columns in _NESTED:
        part = payload.get(section)
        if part is not None:
            _encode(part, columns, pointer, values, problems)
    return values


def _encode(
    part: Mapping[str, Any],
    columns: Mapping[str, _Column],
    pointer: str,
    values: dict[str, Value],
    problems: list[ApplicationProblem],
) -> None:
    for key, raw in part.items():
        column = columns.get(key)
        if column is None or raw is None:
            continue
        name, plain, minimum, maximum, encode = column
        size: Any = len(raw) if plain is str and type(raw) is str else raw
        if type(raw) is plain and minimum <= size <= maximum:
            values[name] = raw
            continue
        try:
            values[name] = encode(raw)
        except ValueError as error:
            problems.append(ApplicationProblem(pointer=f"{pointer}{key}", detail=str(error)))


def _attributes(
    given: Mapping[str, object],
    policy: CompiledPolicy,
    values: dict[str, Value],
    problems: list[ApplicationProblem],
) -> None:
    for name, raw in given.items():
        field = policy.attributes.get(name)
        if field is None:
            problems.append(_problem("/attributes", name, "the policy declares no such attribute"))
        elif raw is not None:
            try:
                values[field.name] = field.encode(raw)
            except ValueError as error:
                problems.append(_problem("/attributes", name, str(error)))


def _causes(
    stated: Mapping[str, object],
    policy: CompiledPolicy,
    values: Mapping[str, Value],
    pulled_at: datetime | None,
    problems: list[ApplicationProblem],
) -> dict[str, Unknown]:
    """The stated causes; each must be of a field that the request may carry and does not."""
    causes: dict[str, Unknown] = {}
    for name, raw in stated.items():
        cause = _CAUSES.get(raw) if isinstance(raw, str) else None
        if name not in REQUESTABLE and name.removeprefix("attributes.") not in policy.attributes:
            problems.append(_problem("/unknown", name, "there is no such field in a request"))
        elif cause is None:
            problems.append(_problem("/unknown", name, f"must be one of {', '.join(_CAUSES)}"))
        elif name in values or (name == _PULLED_AT and pulled_at is not None):
            problems.append(_problem("/unknown", name, "states a cause for a value that is known"))
        else:
            causes[name] = cause
    return causes


REQUESTABLE = frozenset(field.name for field in STANDARD_FIELDS) | {_PULLED_AT}
"""The standard names that a request may state a cause for."""


def _check(
    payload: Mapping[str, Any],
    values: Mapping[str, Any],
    policy: CompiledPolicy,
    problems: list[ApplicationProblem],
) -> None:
    """Product, currency, jurisdiction, term and amount must be ones that the policy lends in."""
    if payload.get("currency") != policy.currency:
        problems.append(ApplicationProblem(pointer="/currency", detail=f"must be {policy.currency}"))
    jurisdiction = values.get("jurisdiction")
    if jurisdiction is not None and policy.jurisdictions is not None and jurisdiction not in policy.jurisdictions:
        problems.append(ApplicationProblem(pointer="/jurisdiction", detail="the policy does not lend there"))
    product = policy.products.get(values.get("product", ""))
    if product is None:
        problems.append(ApplicationProblem(pointer="/product", detail="the policy has no such product"))
        return
    if not product.term_minimum <= values.get("term_months", 0) <= product.term_maximum:
        detail = f"must be from {product.term_minimum} to {product.term_maximum} for this product"
        problems.append(ApplicationProblem(pointer="/term_months", detail=detail))
    if values.get("amount", 0) < product.minimum_amount:
        detail = f"must be at least {product.minimum_amount} for this product"
        problems.append(ApplicationProblem(pointer="/amount", detail=detail))


def read_instant(
    part: Mapping[str, Any], key: str, pointer: str, problems: list[ApplicationProblem]
) -> datetime | None:
    """An instant of a request, or None where there is none. One that has no offset or is out of range is a problem."""
    raw = part.get(key)
    if raw is None:
        return None
    try:
        at = raw if isinstance(raw, datetime) else parse_instant(raw)
    except (TypeError, ValueError):
        problems.append(ApplicationProblem(pointer=pointer, detail="must be an instant with a UTC offset"))
        return None
    if at.tzinfo is None:
        problems.append(ApplicationProblem(pointer=pointer, detail="must name a UTC offset"))
        return None
    if not _EARLIEST_YEAR <= at.year <= _LATEST_YEAR:
        problems.append(ApplicationProblem(pointer=pointer, detail="is out of range"))
        return None
    return at


def _problem(parent: str, key: str, detail: str) -> ApplicationProblem:
    escaped = key.replace("~", "~0").replace("/", "~1")
    return ApplicationProblem(pointer=f"{parent}/{escaped}", detail=detail)
