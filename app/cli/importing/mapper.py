"""One row in, one request body out, or everything that is wrong with the row. Pure: no I/O, no clock."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, assert_never
from zoneinfo import ZoneInfo

import orjson
from pydantic import ValidationError

from app.api.field_errors import field_errors
from app.cli.importing import conversions
from app.cli.importing.conversions import ConversionError
from app.cli.importing.mapping import ImportMapping, MappingError, Refusal, TableMapping
from app.cli.importing.sources import (
    BooleanColumn,
    Cause,
    ColumnSource,
    Constant,
    DateColumn,
    InstantColumn,
    KeyedHash,
    MappedColumn,
    MoneyColumn,
    MonthsColumn,
    NumberColumn,
    PercentColumn,
    Ratio,
    Scalar,
    Source,
    Template,
    TextColumn,
)
from app.domain.money import minor_unit_exponent
from app.screening.payload import read_payload

Row: TypeAlias = Mapping[str, str | None]
"""The cells of one row by column, as text. None: blank. A column that is not there was not requested."""

MIN_HASH_KEY_BYTES = 16


_NO_CURRENCY = Constant(constant=0)
"""Nothing that an amount in major units could be read by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProblem:
    """What is wrong with a row: where in the request, from which column, and why. Never a value of the row."""

    detail: str
    pointer: str | None = None
    column: str | None = None

    def document(self) -> dict[str, str]:
        """As the rejects file writes it."""
        pairs = (("pointer", self.pointer), ("column", self.column), ("detail", self.detail))
        return {key: value for key, value in pairs if value is not None}


class RowRefusedError(Exception):
    """A row that is no application, with everything that is wrong with it."""

    def __init__(self, problems: tuple[RowProblem, ...]) -> None:
        super().__init__("; ".join(problem.detail for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A row as a request: its id, and the body's bytes."""

    application_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class _Unknown:
    """A value that the row does not have, and the cause that the request states for it, if any."""

    cause: Cause | None = None


_Read: TypeAlias = Callable[[Row], "Scalar | _Unknown"]


class Mapper:
    """A mapping made ready to be applied."""

    def __init__(self, mapping: ImportMapping | TableMapping, hash_keys: Mapping[str, bytes] | None = None) -> None:
        """`hash_keys` are the secrets of the mapping's keyed hashes, by the variable that they come from.

        Raises:
            MappingError: where such a secret is missing or short.
        """
        self._mapping = mapping
        self._hash_keys = hash_keys or {}
        self._require_secrets()
        self._nulls = frozenset(mapping.file.null_values)
        self._currency = self._reader(mapping.fields.get("currency", _NO_CURRENCY))
        attributes = {f"attributes.{name}": source for name, source in mapping.attributes.items()}
        self._readers = tuple(
            (path, _pointer(path), _shown(source), self._reader(source))
            for path, source in {**mapping.fields, **attributes}.items()
        )
        self._columns_by_pointer = {pointer: shown for _, pointer, shown, _ in self._readers}

    def _require_secrets(self) -> None:
        sources = (*self._mapping.fields.values(), *self._mapping.attributes.values())
        variables = sorted({source.key_from for source in sources if isinstance(source, KeyedHash)})
        faults = tuple(
            f"{variable} must hold the secret of the hash, at least {MIN_HASH_KEY_BYTES} bytes"
            for variable in variables
            if len(self._hash_keys.get(variable, b"")) < MIN_HASH_KEY_BYTES
        )
        if faults:
            raise MappingError(faults)

    def fields(self, row: Row) -> dict[str, object]:
        """What the mapping makes of a row, by path, before anything looks at what it means.

        Raises:
            RowRefusedError: with every fault.
        """
        cells = {name: self._cell(text) for name, text in row.items()}
        refused = tuple(
            RowProblem(column=refusal.column, detail=refusal.because)
            for refusal in self._mapping.refuse
            if _applies(refusal, cells.get(refusal.column))
        )
        if refused:
            raise RowRefusedError(refused)
        return self._payload(cells)

    def application(self, row: Row) -> Application:
        """The request of a row.

        Raises:
            RowRefusedError: with every fault.
        """
        payload = self.fields(row)
        try:
            body = orjson.dumps(payload)
        except orjson.JSONEncodeError:
            raise RowRefusedError((RowProblem(detail="holds text that is not valid Unicode"),)) from None
        try:
            read_payload(body)
        except ValidationError as error:
            found = field_errors(error.errors(include_url=False, include_input=False))
            raise RowRefusedError(
                tuple(
                    RowProblem(
                        pointer=each.pointer, column=self._columns_by_pointer.get(each.pointer), detail=each.detail
                    )
                    for each in found
                )
            ) from None
        return Application(application_id=str(payload["application_id"]), body=body)

    def _payload(self, cells: Row) -> dict[str, object]:
        payload: dict[str, object] = {}
        unknown: dict[str, str] = dict(self._mapping.unknown)
        problems: list[RowProblem] = []
        for path, pointer, shown, read in self._readers:
            try:
                value = read(cells)
            except ConversionError as error:
                problems.append(RowProblem(pointer=pointer, column=shown, detail=str(error)))
                continue
            if isinstance(value, _Unknown):
                if value.cause is not None:
                    unknown[path] = value.cause
                continue
            section, _, name = path.rpartition(".")
            part = payload.setdefault(section, {}) if section else payload
            assert isinstance(part, dict)
            part[name] = value
        if problems:
            raise RowRefusedError(tuple(problems))
        if unknown:
            payload["unknown"] = unknown
        return payload

    def _cell(self, text: str | None) -> str | None:
        if text is None:
            return None
        stripped = text.strip()
        return None if stripped in self._nulls else stripped

    def _reader(self, source: Source) -> _Read:
        match source:
            case Constant(constant=constant):
                return lambda _: constant
            case Template():
                return _template(source)
            case KeyedHash():
                return self._keyed_hash(source)
            case Ratio():
                return self._ratio(source)
            case _:
                return self._column(source)

    def _column(self, source: ColumnSource) -> _Read:
        name, nulls, blank = source.column, frozenset(source.null_values), _Unknown(source.if_null)
        convert = self._conversion(source)

        def read(cells: Row) -> Scalar | _Unknown:
            if name not in cells:
                return _Unknown()
            text = cells[name]
            return blank if text is None or text in nulls else convert(text, cells)

        return read

    def _conversion(self, source: ColumnSource) -> Callable[[str, Row], Scalar]:
        match source:
            case TextColumn():
                return lambda text, _: text
            case MappedColumn():
                return lambda text, _: _mapped(text, source)
            case NumberColumn() | PercentColumn() | MonthsColumn() | MoneyColumn():
                return self._numeric(source)
            case BooleanColumn():
                true_values, false_values = frozenset(source.true_values), frozenset(source.false_values)
                return lambda text, _: conversions.boolean(text, true_values, false_values)
            case DateColumn(format=pattern):
                return lambda text, _: conversions.calendar_date(text, pattern)
            case InstantColumn(format=pattern):
                zone = None if source.timezone is None else ZoneInfo(source.timezone)
                return lambda text, _: conversions.instant(text, pattern, zone)
            case _:
                assert_never(source)

    def _numeric(
        self, source: NumberColumn | PercentColumn | MonthsColumn | MoneyColumn
    ) -> Callable[[str, Row], Scalar]:
        """A number times the unit it is written in, as an integer at the scale that the payload carries."""
        comma, rounding = self._mapping.file.decimal_comma, source.rounding
        factor = {"fraction": 100, "years": 12}.get(getattr(source, "unit", ""), 1)
        decimals = source.decimals if isinstance(source, NumberColumn | PercentColumn) else 0
        in_major_units = isinstance(source, MoneyColumn) and source.unit == "major"

        def convert(text: str, cells: Row) -> Scalar:
            written = conversions.number(text, decimal_comma=comma)
            scale = self._exponent(cells) if in_major_units else decimals
            return conversions.decimal_value(conversions.at_scale(written, scale, rounding, factor), decimals)

        return convert

    def _exponent(self, cells: Row) -> int:
        currency = self._currency(cells)
        if not isinstance(currency, str):
            raise ConversionError("cannot be read without a currency")
        return minor_unit_exponent(currency)

    def _ratio(self, source: Ratio) -> _Read:
        nulls, blank = frozenset(source.null_values), _Unknown(source.if_null)
        comma, scale = self._mapping.file.decimal_comma, source.decimals

        def read(cells: Row) -> Scalar | _Unknown:
            texts = [cells.get(name) for name in (*source.ratio, source.over)]
            known = [text for text in texts if text is not None and text not in nulls]
            if len(known) < len(texts):
                return blank
            *parts, whole = (conversions.number(text, decimal_comma=comma) for text in known)
            if whole < 0:
                raise ConversionError("must not have a negative denominator")
            if whole == 0:
                return blank
            fractions = [part.as_integer_ratio() for part in (*parts, whole)]
            common = 1
            for _, denominator in fractions:
                common *= denominator
            integers = [numerator * (common // denominator) for numerator, denominator in fractions]
            percentage = conversions.divide(sum(integers[:-1]) * 100 * 10**scale, integers[-1], source.rounding, scale)
            return conversions.decimal_value(percentage, scale)

        return read

    def _keyed_hash(self, source: KeyedHash) -> _Read:
        key = self._hash_keys[source.key_from]

        def read(cells: Row) -> Scalar | _Unknown:
            texts = [text for name in source.hash if (text := cells.get(name)) is not None]
            if len(texts) < len(source.hash):
                return _Unknown()
            mac = hmac.digest(key, orjson.dumps(texts), hashlib.sha256)
            return base64.urlsafe_b64encode(mac).decode().rstrip("=")

        return read


def _template(source: Template) -> _Read:
    parts = source.parts

    def read(cells: Row) -> Scalar | _Unknown:
        texts: list[str] = []
        for part in parts:
            text = part if isinstance(part, str) else next((cells[name] for name in part if cells.get(name)), None)
            if text is None:
                return _Unknown()
            texts.append(text)
        return "".join(texts)

    return read


def _mapped(text: str, source: MappedColumn) -> Scalar:
    value = source.map.get(text, source.otherwise)
    if value is None:
        raise ConversionError("must be one of the texts that the mapping names")
    return value


def _applies(refusal: Refusal, cell: str | None) -> bool:
    if refusal.is_null:
        return cell is None
    if refusal.is_one_of is not None:
        return cell in refusal.is_one_of
    return cell is not None and cell not in (refusal.is_none_of or ())


def _shown(source: Source) -> str | None:
    """The columns that a value comes from, for the rejects file."""
    if isinstance(source, Constant):
        return None
    if isinstance(source, Template | KeyedHash | Ratio):
        return ", ".join(source.columns)
    return source.column


def _pointer(path: str) -> str:
    return "/" + path.replace(".", "/")
