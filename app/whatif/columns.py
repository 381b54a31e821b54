"""A batch of rows as a policy sees them: each field's values, which of them are known, and why the others are not.

Also finds the rows that the policy would not decide at all, for what the hot path answers with a 422.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import IntEnum
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.domain.application import REPORTABLE_CAUSES, Unknown
from app.domain.compiled import CompiledPolicy
from app.domain.fields import Field, FieldKind, Value
from app.domain.intake import REQUESTABLE
from app.domain.screening import CLOCK_SKEW
from app.whatif.arrays import Codes, Days, Flags, Index, Integers, quotients
from app.whatif.packing import LIST, PAIR
from app.whatif.schema import attributes_in

CAUSES: Final = tuple(Unknown)
"""The causes by code. The first is what holds where none is stated."""
NOT_REQUESTED: Final = CAUSES.index(Unknown.NOT_REQUESTED)
UNDEFINED: Final = CAUSES.index(Unknown.UNDEFINED)

_CAUSE_CODES = {cause.value: CAUSES.index(cause) for cause in REPORTABLE_CAUSES}
_NUMBERS = frozenset({FieldKind.NUMBER, FieldKind.MONEY})
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_DAY_US = 86_400_000_000
_SKEW_US = CLOCK_SKEW // datetime.resolution
_BPS = 10_000


class Refusal(IntEnum):
    """Why a policy would not decide a request. Where several hold, the lowest but `NONE` is named."""

    NONE = 0
    CONSENT = 1
    FORM = 2
    PRODUCT = 3
    CURRENCY = 4
    JURISDICTION = 5
    TERM = 6
    AMOUNT = 7
    ATTRIBUTE = 8
    CAUSE = 9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column:
    """One field of all rows, each array as long as the batch.

    `values` holds 0 where `known` is false; there `causes` says why (None: not requested, all of them). Of a text the
    values are positions in `texts`, each of which is another.
    """

    values: Integers
    known: Flags
    causes: Codes | None = None
    texts: pa.StringArray | None = None

    def code_of(self, threshold: Value | frozenset[Value]) -> int | frozenset[int]:
        """A text, or several, as the values of this column; one that no row has as -1."""
        if isinstance(threshold, frozenset):
            return frozenset(self._code_of(text) for text in threshold)
        return self._code_of(threshold)

    def _code_of(self, text: Value) -> int:
        return -1 if self.texts is None else int(pc.index(self.texts, pa.scalar(text, pa.string())).as_py())

    def names(self) -> tuple[str, ...]:
        """What the values of a text stand for."""
        return () if self.texts is None else tuple(self.texts.to_pylist())

    def take(self, rows: Index) -> Column:
        """The same of some rows."""
        causes = None if self.causes is None else self.causes[rows]
        return replace(self, values=self.values[rows], known=self.known[rows], causes=causes)

    def cause_codes(self) -> Codes:
        """The causes of all rows; what they say of known ones means nothing."""
        return np.full(self.known.shape, NOT_REQUESTED, np.uint8) if self.causes is None else self.causes


class PolicyColumns:
    """The fields of a batch, made when they are first asked for."""

    def __init__(self, batch: pa.RecordBatch, policy: CompiledPolicy) -> None:
        self._batch = batch
        self._policy = policy
        self._names = frozenset(batch.schema.names)
        self._columns: dict[str, Column] = {}
        self.rows: int = batch.num_rows
        self.decided_at: Integers = integers(batch.column("decided_at"))[0]
        self._attribute_refusals: Flags = np.zeros(self.rows, dtype=np.bool_)
        for name in attributes_in(batch.schema.names):
            self._read_attribute(name)

    def column(self, name: str) -> Column:
        """A field, whether the request carries it or the gate derives it; unknown where nobody carries it."""
        found = self._columns.get(name)
        if found is None:
            derive = _DERIVED.get(name)
            found = self._columns[name] = self.stated(name) if derive is None else derive(self)
        return found

    def stated(self, name: str) -> Column:
        """A field as the request has it."""
        column = self._standard(name)
        return replace(column, causes=self._stated_causes(name))

    def texts(self, name: str) -> tuple[Integers, tuple[str, ...]]:
        """A text of the context as codes, -1 where there is none, and the texts that the codes stand for."""
        codes, known, texts = _coded(self._batch.column(name))
        return np.where(known, codes, -1), tuple(texts.to_pylist())

    @cached_property
    def products(self) -> Column:
        """The product of each row."""
        return self._standard("product")

    @cached_property
    def refusals(self) -> Codes:
        """Why the policy would not decide a row (`Refusal`), as the hot path's intake says it."""
        policy = self._policy
        faults: dict[Refusal, Flags] = {}
        if policy.consent_required:
            faults[Refusal.CONSENT] = ~flags(self._batch.column("consent"))[0]
        faults[Refusal.FORM] = flags(self._batch.column("malformed"))[0]
        products, texts = self.products, self.products.names()
        faults[Refusal.PRODUCT] = ~_by_text(products, lambda text: text in policy.products)
        currencies, currency_texts = self.texts("currency")
        known = np.array([text == policy.currency for text in currency_texts] or [False])
        faults[Refusal.CURRENCY] = ~known[currencies] | (currencies < 0)
        allowed = policy.jurisdictions
        if allowed is not None:
            jurisdiction = self._standard("jurisdiction")
            faults[Refusal.JURISDICTION] = jurisdiction.known & ~_by_text(jurisdiction, lambda text: text in allowed)
        terms, amounts = self._standard("term_months").values, self._standard("amount").values
        limits = np.array(
            [
                (product.term_minimum, product.term_maximum, product.minimum_amount)
                if (product := policy.products.get(text)) is not None
                else (0, 0, 0)
                for text in texts
            ]
            or [(0, 0, 0)],
            dtype=np.int64,
        )[products.values]
        faults[Refusal.TERM] = (terms < limits[:, 0]) | (terms > limits[:, 1])
        faults[Refusal.AMOUNT] = amounts < limits[:, 2]
        faults[Refusal.ATTRIBUTE] = self._attribute_refusals
        faults[Refusal.CAUSE] = self._causes_refused()
        refusals = np.zeros(self.rows, np.uint8)
        for refusal in sorted(faults, reverse=True):
            refusals[faults[refusal]] = refusal
        return refusals

    # Raw columns ------------------------------------------------------------------------------------------------------

    def _standard(self, name: str) -> Column:
        if name.startswith("attributes.") or name not in self._names:
            found = self._columns.get(name)
            return self._nowhere() if found is None else found
        array = self._batch.column(name)
        if pa.types.is_dictionary(array.type):
            codes, known, texts = _coded(array)
            return Column(values=codes, known=known, texts=texts)
        values, known = flags(array) if pa.types.is_boolean(array.type) else integers(array)
        return Column(values=values.astype(np.int64, copy=False), known=known)

    def _nowhere(self) -> Column:
        return Column(values=np.zeros(self.rows, np.int64), known=np.zeros(self.rows, np.bool_))

    @cached_property
    def _causes(self) -> tuple[Integers, tuple[dict[str, int], ...]]:
        """For each row the number of its set of stated causes, -1 where it states none; and those sets."""
        codes, texts = self.texts("unknown")
        return codes, tuple(
            {
                name: _CAUSE_CODES.get(cause, -1)
                for name, _, cause in (pair.partition(PAIR) for pair in text.split(LIST))
            }
            for text in texts
        )

    def _stated_causes(self, name: str) -> Codes | None:
        codes, sets = self._causes
        if not any(name in each for each in sets):
            return None
        # The last cell is where -1 points to: nothing is stated.
        cells = [each.get(name, NOT_REQUESTED) for each in sets] + [NOT_REQUESTED]
        return np.array(cells, np.uint8)[codes]

    def _states_cause(self, name: str) -> Flags:
        codes, sets = self._causes
        return np.array([name in each for each in sets] + [False])[codes]

    def _causes_refused(self) -> Flags:
        codes, sets = self._causes
        attributes = self._policy.attributes
        cells = [
            any(
                cause < 0 or (name not in REQUESTABLE and name.removeprefix("attributes.") not in attributes)
                for name, cause in each.items()
            )
            for each in sets
        ]
        return np.array([*cells, False])[codes]

    def _read_attribute(self, name: str) -> None:
        """The column of a declared attribute as this policy encodes it; rows that it could not read are refused."""
        parts = {
            part: self._batch.column(f"attributes.{name}#{part}") for part in ("number", "decimals", "text", "flag")
        }
        number, is_number = integers(parts["number"])
        codes, is_text, texts = _coded(parts["text"])
        flag, is_flag = flags(parts["flag"])
        nulls, null_texts = self.texts("null_attributes")
        given_null = np.array([name in text.split(LIST) for text in null_texts] + [False])[nulls]
        field = self._policy.attributes.get(name)
        if field is None:
            self._attribute_refusals |= is_number | is_text | is_flag | given_null
            return
        known = np.zeros(self.rows, np.bool_)
        values = np.zeros(self.rows, np.int64)
        if field.kind is FieldKind.BOOLEAN:
            known |= is_flag
            values[is_flag] = flag[is_flag]
        elif field.kind in _NUMBERS:
            scaled, fits = _at_scale(number, integers(parts["decimals"])[0], field)
            known |= is_number & fits
            values[known] = scaled[known]
        encoded = [_encoded(field, text) for text in texts.to_pylist()] or [None]
        readable = np.array([value is not None for value in encoded])[codes] & is_text
        if field.kind is FieldKind.TEXT:
            values[readable] = codes[readable]
        elif readable.any():
            values[readable] = np.array([int(value or 0) for value in encoded], np.int64)[codes][readable]
        known |= readable
        self._attribute_refusals |= (is_number | is_text | is_flag) & ~known
        column = Column(values=values, known=known, texts=texts if field.kind is FieldKind.TEXT else None)
        self._columns[field.name] = replace(column, causes=self._stated_causes(field.name))

    # What the gate derives, but for what a product or a ceiling has a part in ----------------------------------------

    def _served(self) -> Column:
        served, known = flags(self._batch.column("served"))
        return Column(values=served.astype(np.int64), known=known)

    def _age_years(self) -> Column:
        born, stated = self.stated("applicant.birth_date"), self.stated("applicant.age_years")
        birth_days = (born.values - _EPOCH_ORDINAL).astype("datetime64[D]")
        today = (self.decided_at // _DAY_US).astype("datetime64[D]")
        years = _years(today) - _years(birth_days) - (_month_and_day(today) < _month_and_day(birth_days))
        ahead = born.known & (birth_days > today)
        causes = np.where(self._states_cause("applicant.age_years"), stated.cause_codes(), born.cause_codes())
        causes[ahead] = UNDEFINED
        return Column(
            values=np.where(born.known & ~ahead, years, np.where(born.known, 0, stated.values)),
            known=(born.known | stated.known) & ~ahead,
            causes=causes.astype(np.uint8),
        )

    def _bureau_age_days(self) -> Column:
        pulled_at, known = integers(self._batch.column("bureau.pulled_at"))
        elapsed = self.decided_at - pulled_at
        ahead = known & (elapsed < -_SKEW_US)
        causes = self._stated_causes("bureau.pulled_at")
        causes = np.full(self.rows, NOT_REQUESTED, np.uint8) if causes is None else causes.copy()
        causes[ahead] = UNDEFINED
        days = np.maximum(-(-elapsed // _DAY_US), 0)
        return Column(values=np.where(known & ~ahead, days, 0), known=known & ~ahead, causes=causes)

    def _existing_ratio(self) -> Column:
        income, obligations = self.stated("applicant.monthly_income"), self.stated("applicant.monthly_obligations")
        known = income.known & obligations.known & (income.values > 0)
        causes = np.where(income.known, obligations.cause_codes(), income.cause_codes())
        causes[income.known & obligations.known] = UNDEFINED
        return ratio_column(obligations.values, income.values, known, causes.astype(np.uint8))


_DERIVED: Mapping[str, Callable[[PolicyColumns], Column]] = {
    "channel.served": PolicyColumns._served,
    "applicant.age_years": PolicyColumns._age_years,
    "bureau.age_days": PolicyColumns._bureau_age_days,
    "existing_dti_pct": PolicyColumns._existing_ratio,
}


def ratio_column(numerators: Integers, denominators: Integers, known: Flags, causes: Codes) -> Column:
    """A percentage at scale 2, rounded up, where it is known: `app.domain.ceiling.ratio_bps` of each row."""
    values = np.zeros(known.shape, np.int64)
    values[known] = quotients(numerators[known], _BPS, denominators[known], up=True)
    return Column(values=values, known=known, causes=causes)


def integers(array: pa.Array) -> tuple[Integers, Flags]:
    """Values, 0 where there is none, and where there is one."""
    if array.null_count == len(array):
        return np.zeros(len(array), np.int64), np.zeros(len(array), np.bool_)
    known = _valid(array)
    values: Integers = array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return values, known


def flags(array: pa.Array) -> tuple[Flags, Flags]:
    """Flags, false where there is none, and where there is one."""
    values: Flags = array.fill_null(False).to_numpy(zero_copy_only=False)
    return values, _valid(array)


def _coded(array: pa.DictionaryArray) -> tuple[Integers, Flags, pa.StringArray]:
    codes, known = integers(array.indices)
    return codes, known, array.dictionary


def _valid(array: pa.Array) -> Flags:
    if array.null_count == 0:
        return np.ones(len(array), np.bool_)
    valid: Flags = pc.is_valid(array).to_numpy(zero_copy_only=False)
    return valid


def _by_text(column: Column, test: Callable[[str], bool]) -> Flags:
    """What a test says of each row's text; false where there is none."""
    verdicts: Flags = np.array([test(text) for text in column.names()] or [False])[column.values]
    return verdicts & column.known


def _encoded(field: Field, text: str) -> Value | None:
    try:
        return field.encode(text)
    except ValueError:
        return None


def _at_scale(numbers: Integers, decimals: Integers, field: Field) -> tuple[Integers, Flags]:
    """JSON numbers at a field's scale, and which of them it takes. What is out of its range is 0, so none overflows."""
    values = np.zeros(numbers.shape, np.int64)
    takes = np.zeros(numbers.shape, np.bool_)
    for places in np.unique(decimals).tolist():
        if places > field.scale:
            continue  # without zeros at their end, these have more decimals than the field declares
        power = 10 ** (field.scale - places)
        within = (decimals == places) & (numbers >= -(-field.minimum // power)) & (numbers <= field.maximum // power)
        values[within] = numbers[within] * power
        takes |= within
    return values, takes


def _years(days: Days) -> Integers:
    years: Integers = days.astype("datetime64[Y]").astype(np.int64)
    return years


def _month_and_day(days: Days) -> Integers:
    """Something that grows with the month and day of a year."""
    months = days.astype("datetime64[M]")
    day: Integers = (days - months.astype("datetime64[D]")).astype(np.int64)
    return months.astype(np.int64) % 12 * 32 + day


def needed_columns(policies: tuple[CompiledPolicy, ...]) -> frozenset[str]:
    """The standard fields and facts that these policies read, so that no other column need be."""
    read = {"amount", "term_months", "product", "jurisdiction", "all_in_apr_pct", "budget.available"}
    for policy in policies:
        for tier in policy.rules_by_tier.values():
            rules = [row[-1] for row in (*tier.request, *tier.ceiling)] + list(tier.settlement)
            for rule in rules:
                read |= rule.fields
        for product in policy.products.values():
            read |= set(product.mandatory)
    read |= {"applicant.birth_date", "applicant.age_years", "applicant.monthly_income"}
    read |= {"applicant.monthly_obligations", "applicant.income_verification"}
    return frozenset(name for name in read if not name.startswith("attributes."))
