"""The mapping file: which column becomes which field, of a request or of a row of a table, and which rows are refused.

Keys that are not known are refused, each fault with the line that it stands on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from collections.abc import Mapping as Map
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from app.cli.importing.documents import DocumentError, Located, read_document
from app.cli.importing.sources import Cause, Constant, Name, Source, Strict
from app.domain.fields import STANDARD_FIELDS
from app.screening.payload import Applicant, ApplicationPayload, Bureau, Business, Device

Form = TypeVar("Form", bound=Strict)

_SECTIONS: Map[str, Any] = {"applicant": Applicant, "bureau": Bureau, "device": Device, "business": Business}
_ATTRIBUTE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


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


class Refusal(Strict):
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


class FileOptions(Strict):
    """How the file is written. `null_values` are the texts that mean unknown in every column."""

    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] = ","
    encoding: Literal["utf-8", "utf-8-sig", "latin-1", "cp1252", "gb18030"] = "utf-8-sig"
    decimal_comma: bool = False
    null_values: tuple[str, ...] = ("",)


class ImportMapping(Strict):
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
        return _columns((*self.fields.values(), *self.attributes.values()), self.refuse)


class TableMapping(Strict):
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
        return _columns(self.fields.values(), self.refuse)


def _columns(sources: Iterable[Source], refusals: Iterable[Refusal]) -> tuple[str, ...]:
    named = [name for source in sources if not isinstance(source, Constant) for name in source.columns]
    return tuple(dict.fromkeys([*named, *(refusal.column for refusal in refusals)]))


def parse_mapping(text: str) -> ImportMapping:
    """The mapping of a YAML or JSON text.

    Raises:
        MappingError: with every fault and its line.
    """
    return _parsed(text, ImportMapping)[0]


def parse_table_mapping(text: str, known: Set[str]) -> TableMapping:
    """The mapping of a YAML or JSON text to some of the `known` fields.

    Raises:
        MappingError: with every fault and its line.
    """
    mapping, document = _parsed(text, TableMapping)
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


def _parsed(text: str, form: type[Form]) -> tuple[Form, Located]:
    try:
        document = read_document(text)
    except DocumentError as error:
        raise MappingError((str(error),)) from None
    try:
        return form.model_validate(document.value), document
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
