"""What a field is made from: a constant, a column, a table of values, a template, a keyed hash, a ratio of columns."""

from __future__ import annotations

import re
from collections.abc import Mapping as Map
from typing import Annotated, Literal, Self, TypeAlias
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)

from app.cli.importing.conversions import MAX_DECIMALS, Rounding

Scalar: TypeAlias = bool | int | str
Cause: TypeAlias = Literal["not_requested", "not_found", "source_error"]
Name: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Names: TypeAlias = Annotated[tuple[Name, ...], Field(min_length=1, max_length=16)]

_ALTERNATIVES = re.compile(r"\{([^{}]*)\}")


class Strict(BaseModel):
    """A part of a mapping file: unknown keys are refused, nothing is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Constant(Strict):
    """The same value in every request."""

    constant: Scalar


class _Column(Strict):
    """What every source of one column has.

    `optional`: the file may lack the column. `null_values` are texts that mean unknown here, besides the file's own;
    `if_null` the cause that is then stated. A column that is not there was not requested.
    """

    column: Name
    optional: bool = False
    null_values: tuple[str, ...] = ()
    if_null: Cause | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the file must have."""
        return () if self.optional else (self.column,)


class TextColumn(_Column):
    """The text itself, without the space around it."""

    as_: Literal["text"] = Field(default="text", alias="as")


class NumberColumn(_Column):
    """A number with `decimals` decimals; whole by default."""

    as_: Literal["number"] = Field(alias="as")
    decimals: Annotated[int, Field(ge=0, le=MAX_DECIMALS)] = 0
    rounding: Rounding = "exact"


class MoneyColumn(_Column):
    """An amount of the request's currency, to its minor unit."""

    as_: Literal["money"] = Field(alias="as")
    unit: Literal["major", "minor"] = "major"
    rounding: Rounding = "exact"


class PercentColumn(_Column):
    """A percentage, written as one or as a fraction of 1."""

    as_: Literal["percent"] = Field(alias="as")
    unit: Literal["percent", "fraction"] = "percent"
    decimals: Annotated[int, Field(ge=0, le=MAX_DECIMALS)] = 2
    rounding: Rounding = "exact"


class MonthsColumn(_Column):
    """A duration, to whole months."""

    as_: Literal["months"] = Field(alias="as")
    unit: Literal["months", "years"] = "months"
    rounding: Rounding = "exact"


class BooleanColumn(_Column):
    """Yes or no."""

    as_: Literal["boolean"] = Field(alias="as")
    true_values: tuple[Name, ...] = ("1", "true", "yes", "y", "t")
    false_values: tuple[Name, ...] = ("0", "false", "no", "n", "f")

    @field_validator("true_values", "false_values")
    @classmethod
    def _folded(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(value.casefold() for value in values)

    @model_validator(mode="after")
    def _are_apart(self) -> Self:
        if set(self.true_values) & set(self.false_values):
            raise ValueError("a text means both yes and no")
        return self


class DateColumn(_Column):
    """A calendar date; ISO 8601, or as `format` says in the letters of strptime."""

    as_: Literal["date"] = Field(alias="as")
    format: Name | None = None


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise ValueError("is no time zone of the IANA database") from None
    return name


class InstantColumn(_Column):
    """A moment; ISO 8601, or as `format` says. Without an offset of its own it is local to `timezone`."""

    as_: Literal["instant"] = Field(alias="as")
    format: Name | None = None
    timezone: Annotated[str, AfterValidator(_zone)] | None = None


class MappedColumn(_Column):
    """A value for each text; another text refuses the row, unless `otherwise` names a value for it."""

    map: Annotated[dict[str, Scalar], Field(min_length=1, max_length=10_000)]
    otherwise: Scalar | None = None


class Template(Strict):
    """Text around columns: `{a|b}` is the first of them that is not blank. All blank: unknown."""

    template: Annotated[str, StringConstraints(min_length=3, max_length=512)]

    @field_validator("template")
    @classmethod
    def _is_whole(cls, template: str) -> str:
        names = [name.strip() for group in _ALTERNATIVES.findall(template) for name in group.split("|")]
        if not names or not all(names) or set("{}") & set(_ALTERNATIVES.sub("", template)):
            raise ValueError("must hold columns as {name} or {name|other}, and no other braces")
        return template

    @property
    def parts(self) -> tuple[str | tuple[str, ...], ...]:
        """Literal text, and for each group its alternatives."""
        pieces = _ALTERNATIVES.split(self.template)
        return tuple(
            tuple(name.strip() for name in piece.split("|")) if odd else piece
            for position, piece in enumerate(pieces)
            if (odd := position % 2) or piece
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the file must have: the first of each group. Its alternatives stand in for it."""
        return tuple(part[0] for part in self.parts if isinstance(part, tuple))


class KeyedHash(Strict):
    """HMAC-SHA-256 of columns, so that identity leaves the lender only as a hash. The key is read from `key_from`."""

    hash: Names
    key_from: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,127}$")]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the file must have."""
        return self.hash


class Ratio(Strict):
    """The sum of columns over another, as a percentage. Unknown where one is blank or the denominator is 0."""

    ratio: Names
    over: Name
    decimals: Annotated[int, Field(ge=0, le=MAX_DECIMALS)] = 2
    rounding: Rounding = "up"
    null_values: tuple[str, ...] = ()
    if_null: Cause | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the file must have."""
        return (*self.ratio, self.over)


ColumnSource: TypeAlias = (
    TextColumn
    | NumberColumn
    | MoneyColumn
    | PercentColumn
    | MonthsColumn
    | BooleanColumn
    | DateColumn
    | InstantColumn
    | MappedColumn
)
"""The sources that read one column."""

_KINDS = ("text", "number", "money", "percent", "months", "boolean", "date", "instant")
_FORMS = ("constant", "template", "hash", "ratio", "map")


def _form(raw: object) -> str | None:
    """Which source is meant, by the key that only it has."""
    if not isinstance(raw, Map):
        return None
    for form in _FORMS:
        if form in raw:
            return form
    if "column" not in raw:
        return None
    kind = raw.get("as", "text")
    return kind if isinstance(kind, str) and kind in _KINDS else None


Source: TypeAlias = Annotated[
    Annotated[Constant, Tag("constant")]
    | Annotated[Template, Tag("template")]
    | Annotated[KeyedHash, Tag("hash")]
    | Annotated[Ratio, Tag("ratio")]
    | Annotated[MappedColumn, Tag("map")]
    | Annotated[TextColumn, Tag("text")]
    | Annotated[NumberColumn, Tag("number")]
    | Annotated[MoneyColumn, Tag("money")]
    | Annotated[PercentColumn, Tag("percent")]
    | Annotated[MonthsColumn, Tag("months")]
    | Annotated[BooleanColumn, Tag("boolean")]
    | Annotated[DateColumn, Tag("date")]
    | Annotated[InstantColumn, Tag("instant")],
    Discriminator(
        _form,
        custom_error_type="source",
        custom_error_message=(
            "must be a constant, a template, a hash, a ratio, or a column with a map or as one of " + ", ".join(_KINDS)
        ),
    ),
]
