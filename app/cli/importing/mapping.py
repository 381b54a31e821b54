"""The mapping file: which column becomes which field of a request, and how.

A source is one of: a constant, a column with a conversion, a column with a table of values, a template, a keyed hash,
or the ratio of columns. Keys that are not known are refused, each fault with the line that it stands on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as Map
from collections.abc import Set
from typing import Annotated, Any, Literal, Self, TypeAlias
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from app.cli.importing.conversions import MAX_DECIMALS, Rounding
from app.cli.importing.documents import DocumentError, Located, read_document
from app.domain.fields import STANDARD_FIELDS
from app.screening.payload import Applicant, ApplicationPayload, Bureau, Business, Device

Scalar: TypeAlias = bool | int | str
Cause: TypeAlias = Literal["not_requested", "not_found", "source_error"]
Name: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Names: TypeAlias = Annotated[tuple[Name, ...], Field(min_length=1, max_length=16)]

_SECTIONS: Map[str, Any] = {"applicant": Applicant, "bureau": Bureau, "device": Device, "business": Business}
_ATTRIBUTE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_ALTERNATIVES = re.compile(r"\{([^{}]*)\}")


def _payload_paths() -> frozenset[str]:
    """Every path of a request that one value can stand at."""
    not_values = {*_SECTIONS, "attributes", "unknown"}
    top = set(ApplicationPayload.__annotations__) | ApplicationPayload.__required_keys__
    nested = {f"{section}.{name}" for section, form in _SECTIONS.items() for name in form.__annotations__}
    return frozenset((top - not_values) | nested)


PAYLOAD_PATHS = _payload_paths()
CAUSE_PATHS = frozenset(field.name for field in STANDARD_FIELDS) | {"bureau.pulled_at"}
REQUIRED_PATHS = frozenset(ApplicationPayload.__required_keys__)


def _may_be_unknown(path: str) -> bool:
    name = path.removeprefix("attributes.")
    return bool(_ATTRIBUTE_NAME.fullmatch(name)) if name != path else path in CAUSE_PATHS - REQUIRED_PATHS


class MappingError(Exception):
    """A mapping that cannot be used. Carries every fault, each as `line n: key: what is wrong`."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Constant(_Strict):
    """The same value in every request."""

    constant: Scalar


class _Column(_Strict):
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


class Template(_Strict):
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


class KeyedHash(_Strict):
    """HMAC-SHA-256 of columns, so that identity leaves the lender only as a hash. The key is read from `key_from`."""

    hash: Names
    key_from: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,127}$")]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the file must have."""
        return self.hash


class Ratio(_Strict):
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


class Refusal(_Strict):
    """A condition under which a row is no application: it goes to the rejects file with `because`."""

    column: Name
    because: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    is_null: Literal[True] | None = None
    is_one_of: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    is_none_of: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _has_one_condition(self) -> Self:
        given = (self.is_null, self.is_one_of, self.is_none_of)
        if sum(condition is not None for condition in given) != 1:
            raise ValueError("must have exactly one of is_null, is_one_of and is_none_of")
        return self


class FileOptions(_Strict):
    """How the file is written. `null_values` are the texts that mean unknown in every column."""

    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] = ","
    encoding: Literal["utf-8", "utf-8-sig", "latin-1", "cp1252", "gb18030"] = "utf-8-sig"
    decimal_comma: bool = False
    null_values: tuple[str, ...] = ("",)


class ImportMapping(_Strict):
    """The whole file. `unknown` states why fields that the file does not have are unknown."""

    name: Name
    file: FileOptions = FileOptions()
    fields: dict[str, Source]
    attributes: dict[str, Source] = Field(default_factory=dict, max_length=64)
    unknown: dict[str, Cause] = Field(default_factory=dict, max_length=64)
    refuse: tuple[Refusal, ...] = ()

    @field_validator("fields")
    @classmethod
    def _are_of_the_payload(cls, fields: dict[str, Source]) -> dict[str, Source]:
        strange = sorted(set(fields) - PAYLOAD_PATHS)
        missing = sorted(REQUIRED_PATHS - set(fields))
        _refuse({"a request has no": strange, "must name": missing})
        return fields

    @field_validator("attributes")
    @classmethod
    def _are_named_well(cls, attributes: dict[str, Source]) -> dict[str, Source]:
        strange = sorted(name for name in attributes if not _ATTRIBUTE_NAME.fullmatch(name))
        if strange:
            raise ValueError(f"a name is in lower case, digits and underscores: {', '.join(strange)}")
        return attributes

    @model_validator(mode="after")
    def _causes_are_of_fields(self) -> Self:
        """A cause may be stated for what rules can read, and for what is not mapped at the same time."""
        mapped = set(self.fields) | {f"attributes.{name}" for name in self.attributes}
        twice = sorted(mapped & set(self.unknown))
        stated = [path for path, source in self.fields.items() if getattr(source, "if_null", None) is not None]
        strange = sorted(path for path in (*self.unknown, *stated) if not _may_be_unknown(path) and path not in twice)
        _refuse({"unknown and mapped at once:": twice, "no cause can be stated for": strange})
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the file must have, each once."""
        sources = (*self.fields.values(), *self.attributes.values())
        named = [name for source in sources if not isinstance(source, Constant) for name in source.columns]
        return tuple(dict.fromkeys([*named, *(refusal.column for refusal in self.refuse)]))


class TableMapping(_Strict):
    """Columns to the fields of a table that is no application: outcome events, loans of the book."""

    name: Name = "by name"
    file: FileOptions = FileOptions()
    fields: dict[str, Source]
    refuse: tuple[Refusal, ...] = ()

    @property
    def attributes(self) -> dict[str, Source]:
        """There are none: only an application has attributes."""
        return {}

    @property
    def unknown(self) -> dict[str, Cause]:
        """There is none: a field that is not there is not known."""
        return {}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the file must have, each once."""
        named = [name for source in self.fields.values() if not isinstance(source, Constant) for name in source.columns]
        return tuple(dict.fromkeys([*named, *(refusal.column for refusal in self.refuse)]))


def parse_table_mapping(text: str, known: Set[str]) -> TableMapping:
    """The mapping of a YAML or JSON text to some of the `known` fields.

    Raises:
        MappingError: with every fault and its line.
    """
    try:
        document = read_document(text)
    except DocumentError as error:
        raise MappingError((str(error),)) from None
    try:
        mapping = TableMapping.model_validate(document.value)
    except ValidationError as error:
        faults = (_fault(document, each["loc"], each["msg"]) for each in error.errors(include_url=False))
        raise MappingError(tuple(dict.fromkeys(faults))) from None
    strange = tuple(
        f"line {document.line(('fields', name))}: {name}: is no field" for name in mapping.fields if name not in known
    )
    if strange:
        raise MappingError(strange)
    return mapping


def _refuse(faults: Map[str, list[str]]) -> None:
    """Refuse what is named; nothing where each list is empty."""
    told = [f"{what} {', '.join(names)}" for what, names in faults.items() if names]
    if told:
        raise ValueError("; ".join(told))


def parse_mapping(text: str) -> ImportMapping:
    """The mapping of a YAML or JSON text.

    Raises:
        MappingError: with every fault and its line.
    """
    try:
        document = read_document(text)
    except DocumentError as error:
        raise MappingError((str(error),)) from None
    try:
        return ImportMapping.model_validate(document.value)
    except ValidationError as error:
        faults = (_fault(document, each["loc"], each["msg"]) for each in error.errors(include_url=False))
        raise MappingError(tuple(dict.fromkeys(faults))) from None


def _fault(document: Located, location: tuple[int | str, ...], message: str) -> str:
    """Line, key and what is wrong. Below a source, pydantic names the form that it took it for: that is no key."""
    keys = location[:2] + location[3:] if location[:1] in {("fields",), ("attributes",)} else location
    return f"line {document.line(keys)}: {'.'.join(map(str, keys)) or 'mapping'}: {_plain(message)}"


def _plain(message: str) -> str:
    return {"Extra inputs are not permitted": "is not a known key", "Field required": "is required"}.get(
        message, message.removeprefix("Value error, ")
    )
