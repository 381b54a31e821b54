"""An event as callers and files write it, and the row that it becomes: strict, bounded, one natural key a fact.

What a kind does not need is refused, so that a slip in a field's name or kind does not pass for a fact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal, NamedTuple, Required, TypeAlias, cast

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StringConstraints, TypeAdapter, with_config
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from app.domain.fields import MAX_MONEY
from app.outcomes.state import ENDINGS, Kind

DEFAULT_FEED = "default"


class EventError(ValueError):
    """An event whose fields do not fit its kind. `pointer` is a JSON pointer into the event; no value is named."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(f"{pointer or 'event'}: {detail}")
        self.pointer = pointer
        self.detail = detail


class EventRow(NamedTuple):
    """The columns of `gate.outcome_row` after the originator. (kind, discriminator) is the fact's natural key."""

    application_id: str
    kind: str
    discriminator: str
    correction: int
    retracted: bool
    occurred_on: date | None
    month_on_book: int | None
    instalment: int | None
    amount: int | None
    currency: str | None
    balance: int | None
    days_past_due: int | None
    rating: int | None
    feed: str

    def document(self) -> dict[str, Any]:
        """As `gate.outcomes_post` reads it."""
        return self._asdict()


def _written_day(value: object) -> object:
    # Pydantic would take a number, or digits in quotes, for seconds since 1970.
    if isinstance(value, str) and len(value) == 10 and value[4] == value[7] == "-":
        return value
    raise PydanticCustomError("gate_written", "must be a date (YYYY-MM-DD)")


def _of_our_time(value: date) -> date:
    if not 1950 <= value.year < 2200:
        raise PydanticCustomError("gate_date_range", "must lie between the years 1950 and 2199")
    return value


Day: TypeAlias = Annotated[date, Field(strict=False), BeforeValidator(_written_day), AfterValidator(_of_our_time)]
Money: TypeAlias = Annotated[int, Field(ge=0, le=MAX_MONEY)]
ApplicationIdText: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/+=@-]{1,64}$")]
Reference: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/+=@-]{1,64}$")]
FeedCode: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Currency: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]


@with_config(
    ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"application_id": "A-1", "kind": "funded", "occurred_on": "2026-11-02", "amount": 5000000},
                {
                    "application_id": "A-1",
                    "kind": "performance",
                    "month_on_book": 3,
                    "days_past_due": 0,
                    "balance": 3800000,
                },
            ]
        },
    )
)
class OutcomeEvent(TypedDict, total=False):
    """One fact about one application. Money is in minor units."""

    application_id: Required[ApplicationIdText]
    kind: Required[Literal[*tuple(kind.value for kind in Kind)]]  # type: ignore[valid-type]
    occurred_on: Annotated[
        Day | None, Field(description="The day of the fact; of an instalment that is due, its due date.")
    ]
    reference: Annotated[
        Reference | None, Field(description="Tells facts of one kind apart: a loan number, a complaint's number.")
    ]
    correction: Annotated[int, Field(ge=0, le=1_000_000, description="A higher number takes the place of a lower one.")]
    retracted: Annotated[bool, Field(description="With a correction: the fact is taken back.")]
    month_on_book: Annotated[int, Field(ge=0, le=600)] | None
    instalment: Annotated[int, Field(ge=1, le=600)] | None
    amount: Money | None
    currency: Annotated[Currency | None, Field(description="Left out: that of the decision.")]
    balance: Annotated[Money | None, Field(description="What is owed after the fact.")]
    days_past_due: Annotated[int, Field(ge=0, le=36_500)] | None
    rating: Annotated[int, Field(ge=0, le=10, description="Of a satisfaction: 0 to 10.")] | None
    feed: Annotated[FeedCode, Field(description="Which feed brings it; see /v1/feeds.")]


EVENT: TypeAdapter[OutcomeEvent] = TypeAdapter(OutcomeEvent)


@dataclass(frozen=True, slots=True)
class _Form:
    """Which fields a kind must and may have; whether several facts of it have one key each by their day."""

    needs: frozenset[str]
    takes: frozenset[str]
    repeats: bool = False


_KEYED = frozenset(
    {"application_id", "kind", "reference", "correction", "retracted", "feed", "currency", "occurred_on"}
)


def _form(needs: str, takes: str = "", *, repeats: bool = False) -> _Form:
    needed = frozenset(needs.split())
    return _Form(needed, _KEYED | needed | frozenset(takes.split()), repeats)


_FORMS: Mapping[str, _Form] = {
    **{kind.value: _form("occurred_on") for kind in ENDINGS},
    Kind.FUNDED: _form("occurred_on amount"),
    Kind.INSTALMENT_DUE: _form("occurred_on instalment", "amount"),
    Kind.INSTALMENT_PAID: _form("occurred_on instalment amount", "balance"),
    Kind.PERFORMANCE: _form("days_past_due", "balance month_on_book"),
    Kind.RESTRUCTURED: _form("occurred_on", "balance", repeats=True),
    Kind.TECHNICAL_ARREARS: _form("occurred_on", "days_past_due", repeats=True),
    Kind.PAID_OFF: _form("occurred_on", "amount"),
    Kind.CHARGED_OFF: _form("occurred_on", "amount"),
    Kind.FRAUD: _form("occurred_on"),
    Kind.RECOVERED: _form("occurred_on amount", repeats=True),
    Kind.COMPLAINT: _form("occurred_on", repeats=True),
    Kind.SATISFACTION: _form("occurred_on rating", repeats=True),
}


def row_of(event: OutcomeEvent) -> EventRow:
    """The row of a validated event.

    Raises:
        EventError: where its fields do not fit its kind.
    """
    kind: str = event["kind"]
    form = _FORMS[kind]
    if not event.keys() <= form.takes:
        for name, value in event.items():
            if name not in form.takes and value is not None:
                raise EventError(f"/{name}", f"is no field of {kind}")
    get = cast("Mapping[str, Any]", event).get
    retracted = get("retracted", False)
    for name in form.needs:
        if get(name) is None and not (retracted and name not in {"instalment", "occurred_on"}):
            raise EventError(f"/{name}", f"is required for {kind}")
    correction = get("correction", 0)
    if retracted and correction == 0:
        raise EventError("/correction", "must be above 0 where a fact is retracted")
    occurred_on, month, instalment = get("occurred_on"), get("month_on_book"), get("instalment")
    discriminator = get("reference") or ""
    if kind == Kind.PERFORMANCE:
        if month is None and occurred_on is None:
            raise EventError("/occurred_on", "is required for performance, or month_on_book")
        discriminator = f"m{month}" if month is not None else str(occurred_on)
    elif instalment is not None:
        discriminator = f"{instalment}/{discriminator}" if discriminator else str(instalment)
    elif form.repeats and not discriminator:
        discriminator = str(occurred_on)
    return EventRow(
        event["application_id"],
        kind,
        discriminator,
        correction,
        retracted,
        occurred_on,
        month,
        instalment,
        get("amount"),
        get("currency"),
        get("balance"),
        get("days_past_due"),
        get("rating"),
        get("feed", DEFAULT_FEED),
    )
