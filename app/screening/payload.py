"""The request as it is written down: strict, bounded, and without anything that it does not name.

Typed dictionaries, since pydantic builds them in half the time of models and the domain reads plain mappings.
Source of the vocabulary: the application payload of the design; what is null is unknown, never zero.
"""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AwareDatetime,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Strict,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    with_config,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema
from typing_extensions import TypedDict

from app.domain.application import MAX_REVISIONS
from app.domain.fields import EMPLOYMENT_TYPES, INCOME_VERIFICATION, MAX_MONEY

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, regex_engine="rust-regex")


class _Written:
    """The form that a date or an instant has as text. Pydantic alone would read digits in quotes as seconds since 1970.

    The schema of the type that it marks must be lax: what it sees is text and not JSON.
    """

    def __init__(self, pattern: str, detail: str) -> None:
        self._pattern = pattern
        self._detail = detail

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        text = core_schema.custom_error_schema(
            core_schema.str_schema(pattern=self._pattern, strict=True),
            custom_error_type="gate_written",
            custom_error_message=self._detail,
        )
        return core_schema.chain_schema([text, handler(source)])

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        assert schema["type"] == "chain"
        return handler(schema["steps"][-1])


_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
Identifier: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/+=@-]{1,64}$")]
Code: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Label: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=_PRINTABLE)]
Currency: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Money: TypeAlias = Annotated[int, Field(ge=0, le=MAX_MONEY)]
Months: TypeAlias = Annotated[int, Field(ge=0, le=6_000)]
Count: TypeAlias = Annotated[int, Field(ge=0, le=1_000_000)]
Percent: TypeAlias = (
    Annotated[float, Field(ge=0, le=1_000)] | Annotated[str, StringConstraints(pattern=r"^[0-9]{1,4}(\.[0-9]{1,9})?$")]
)
"""A number or decimal text; the domain takes both for the decimal that is written: see `read_payload`."""
_DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
Date: TypeAlias = Annotated[date, Strict(False), _Written(_DAY + "$", "must be a date (YYYY-MM-DD)")]
Instant: TypeAlias = Annotated[AwareDatetime, Strict(False), _Written(_DAY + "[Tt ]", "must be an instant (RFC 3339)")]
Attribute: TypeAlias = bool | Annotated[int, Field(ge=-MAX_MONEY, le=MAX_MONEY)] | float | Label | None


@with_config(_STRICT)
class Applicant(TypedDict, total=False):
    """The person, as far as the gate may know."""

    applicant_ref: Annotated[
        Identifier | None, Field(description="Stable keyed hash of the person, the same across channels.")
    ]
    birth_date: Date | None
    age_years: Annotated[int, Field(ge=0, le=150)] | None
    employment_type: Annotated[Literal[*EMPLOYMENT_TYPES] | None, Field()]  # type: ignore[valid-type]
    employment_months: Months | None
    residence_months: Months | None
    monthly_income: Annotated[Money | None, Field(description="Gross, in minor units of `currency`.")]
    income_verification: Annotated[
        Literal[*INCOME_VERIFICATION] | None,  # type: ignore[valid-type]
        Field(description="From weakest to strongest: none, stated, bank, payroll, tax."),
    ]
    monthly_obligations: Annotated[Money | None, Field(description="Existing instalments a month, in minor units.")]


@with_config(_STRICT)
class Bureau(TypedDict, total=False):
    """What the credit bureau said, and when."""

    pulled_at: Instant | None
    hit: bool | None
    score: Annotated[int, Field(ge=0, le=10_000)] | None
    score_band: Label | None
    history_months: Months | None
    max_dpd_12m: Annotated[int, Field(ge=0, le=10_000)] | None
    current_dpd_own: Annotated[int, Field(ge=0, le=10_000)] | None
    inquiries_3m: Annotated[int, Field(ge=0, le=10_000)] | None
    active_lenders: Annotated[int, Field(ge=0, le=10_000)] | None
    bankruptcy_months_ago: Months | None
    open_judgment: bool | None


@with_config(_STRICT)
class Device(TypedDict, total=False):
    """What is known of the device that the application came from."""

    ids_on_device_24h: Count | None


@with_config(_STRICT)
class Business(TypedDict, total=False):
    """The business, where it is one that borrows."""

    months_trading: Months | None
    annual_revenue: Money | None
    owner_guarantee: bool | None


@with_config(_STRICT)
class _Required(TypedDict):
    application_id: Annotated[Identifier, Field(description="Unique within the originator.")]
    channel_code: Annotated[Code, Field(description="The acquisition channel's code, or an alias of it.")]
    product: Code
    amount: Annotated[int, Field(gt=0, le=MAX_MONEY, description="Asked for, in minor units of `currency`.")]
    currency: Annotated[Currency, Field(description="ISO 4217.")]
    term_months: Annotated[int, Field(ge=1, le=480)]


@with_config(_STRICT)
class ApplicationPayload(_Required, total=False):
    """One request for a loan, in one revision."""

    revision: Annotated[int, Field(ge=1, le=MAX_REVISIONS, description="1 unless it amends an earlier revision.")]
    submitted_at: Instant | None
    completed_at: Annotated[
        Instant | None, Field(description="When the application was complete: the clock of its notices.")
    ]
    consent_at: Instant | None
    jurisdiction: Annotated[Code | None, Field(description="Country, or country and region: CN, US-CA.")]
    sub_id: Annotated[Label | None, Field(description="The channel's own source of this application.")]
    agreement_id: Label | None
    purpose: Label | None
    all_in_apr_pct: Annotated[Percent | None, Field(description="Yearly all-in cost in percent, two decimals.")]
    applicant: Applicant | None
    bureau: Bureau | None
    device: Device | None
    business: Business | None
    attributes: Annotated[
        dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")], Attribute] | None,
        Field(max_length=64, description="The lender's own attributes, as the policy declares them."),
    ]
    unknown: Annotated[
        dict[
            Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.]{0,127}$")],
            Literal["not_requested", "not_found", "source_error"],
        ]
        | None,
        Field(max_length=64, description="Why a value is null, by its path: `bureau.score`."),
    ]


PAYLOAD: TypeAdapter[ApplicationPayload] = TypeAdapter(ApplicationPayload)
"""The schema. What comes from outside is read by `read_payload`, what the log holds by `PAYLOAD.validate_json`."""

_LONG = (b".0000000", b"0000000000.", b"0000000000e")
"""In a number of more than the 15 digits that a float keeps, one of these is found once every digit is written as 0."""
_SHAPES = bytes.maketrans(b"123456789E", b"000000000e")
_validate_json = PAYLOAD.validator.validate_json


def read_payload(body: bytes) -> ApplicationPayload:
    """The request in a raw body, every number of it exact.

    A fraction is a float between its text and the domain, which takes the float for its shortest decimal form. Where
    that is not what is written (24.0000000000000001 would be 24), the request is refused.

    Raises:
        ValidationError: where the body does not fit the schema, or a number cannot be read exactly.
    """
    payload: ApplicationPayload = _validate_json(body)
    attributes = payload.get("attributes")
    numbers = [payload.get("all_in_apr_pct"), *attributes.values()] if attributes else [payload.get("all_in_apr_pct")]
    floats = [number for number in numbers if type(number) is float]
    if floats:
        shapes = body.translate(_SHAPES)
        # A zero may be what is left of 1e-400; a long run may also be an identifier's. Both are looked at in full.
        if 0.0 in floats or any(run in shapes for run in _LONG):
            _refuse_inexact(body)
    return payload


class _Fraction(str):
    """A fractional number as it is written."""

    @property
    def survives(self) -> bool:
        """Whether a float stands for exactly this number."""
        try:
            return Decimal(self) == Decimal(repr(float(self)))
        except InvalidOperation:  # an exponent that no number needs
            return False


def _refuse_inexact(body: bytes) -> None:
    document = json.loads(body, parse_float=_Fraction)
    places: dict[tuple[str, ...], object] = {("all_in_apr_pct",): document.get("all_in_apr_pct")}
    places |= {("attributes", name): value for name, value in (document.get("attributes") or {}).items()}
    faults = [
        InitErrorDetails(type=_INEXACT, loc=place, input=None)
        for place, number in places.items()
        if isinstance(number, _Fraction) and not number.survives
    ]
    if faults:
        raise ValidationError.from_exception_data("ApplicationPayload", faults, input_type="json")


_INEXACT = PydanticCustomError(
    "gate_inexact", "has more digits than a JSON number keeps: write fewer, or the decimal as text"
)
