"""Numbers, money and bytes are exact."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.canonical import canonical_bytes, instant_text, parse_instant, without_floats
from app.domain.fields import STANDARD_FIELDS, FieldKind, Source, declare_attribute, scaled
from app.domain.money import (
    ANNUITY_SCALE,
    annuity_factor,
    floor_to_unit,
    minor_unit_exponent,
    monthly_payment,
    present_value,
)


@given(st.integers(0, 100_000), st.integers(1, 480))
def test_an_annuity_factor_is_the_exact_sum_rounded_down(rate_bps: int, term_months: int) -> None:
    monthly = Fraction(1) / (1 + Fraction(rate_bps, 120_000))
    total = sum((monthly**month for month in range(1, term_months + 1)), Fraction()) if term_months < 40 else None
    factor = annuity_factor(rate_bps, term_months)
    if total is not None:
        assert factor == total * ANNUITY_SCALE // 1
    assert 0 < factor <= term_months * ANNUITY_SCALE


@given(st.integers(0, 10**15), st.integers(0, 100_000), st.integers(1, 480), st.integers(1, 10**6))
def test_the_instalment_of_what_a_payment_repays_fits_the_payment(
    payment: int, rate_bps: int, term_months: int, unit: int
) -> None:
    factor = annuity_factor(rate_bps, term_months)
    loan = floor_to_unit(present_value(payment, factor), unit)
    assert loan % unit == 0
    assert monthly_payment(loan, factor) <= payment
    assert present_value(monthly_payment(loan, factor), factor) >= loan


def test_nothing_is_lent_against_a_payment_below_zero() -> None:
    assert present_value(-1, ANNUITY_SCALE) == 0
    assert floor_to_unit(-1, 100) == 0


def test_currencies_have_their_own_minor_units() -> None:
    assert [minor_unit_exponent(currency) for currency in ("CNY", "JPY", "KWD")] == [2, 0, 3]


@given(st.decimals(-(10**9), 10**9, places=3))
def test_a_decimal_is_taken_exactly_or_refused(number: Decimal) -> None:
    exact = Fraction(number) * 100
    forms: list[Any] = [number, format(number, "f")]
    for form in forms:
        if exact.denominator == 1:
            assert scaled(form, 2) == exact
        else:
            with pytest.raises(ValueError, match="decimals"):
                scaled(form, 2)


@pytest.mark.parametrize(
    "raw", [True, "1e3", "１", " 1", "1_0", "", "NaN", Decimal("NaN"), float("inf"), None, [], 10**18, 1e300]
)
def test_what_is_no_plain_number_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match=r"must be a number|out of range"):
        scaled(raw, 2)


@pytest.mark.parametrize("field", [field for field in STANDARD_FIELDS if field.kind is FieldKind.CHOICE], ids=str)
def test_a_choice_is_its_position_and_reads_back(field: Any) -> None:
    assert [field.display(field.encode(choice)) for choice in field.choices] == list(field.choices)


def test_values_are_shown_as_json_takes_them() -> None:
    percent = declare_attribute(name="p", kind=FieldKind.NUMBER, scale=2)
    day = declare_attribute(name="d", kind=FieldKind.DATE)
    assert (percent.display(1_440), day.display(day.encode("2026-01-15"))) == ("14.40", "2026-01-15")
    assert day.encode(date(2026, 1, 15)) == day.encode("2026-01-15")
    assert declare_attribute(name="t", kind=FieldKind.TEXT, source=Source.DEVICE).encode("x") == "x"
    with pytest.raises(ValueError, match="YYYY-MM-DD"):
        day.encode(datetime(2026, 1, 15, tzinfo=UTC))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(max_codepoint=127)), inner),
    max_leaves=20,
)


@given(JSON)
def test_canonical_bytes_are_those_of_any_sorting_encoder(value: Any) -> None:
    assert canonical_bytes(value) == orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    assert json.loads(canonical_bytes(value)) == value


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
instants = st.builds(
    lambda microseconds, hours: (EPOCH + timedelta(microseconds=microseconds)).astimezone(
        timezone(timedelta(hours=hours))
    ),
    st.integers(0, 7 * 10**15),
    st.integers(-12, 14),
)


@given(instants)
def test_an_instant_survives_its_text_and_texts_sort_as_instants(at: datetime) -> None:
    assert parse_instant(instant_text(at)) == at
    assert (instant_text(at) < instant_text(at + timedelta(microseconds=1))) is True


def test_documents_hold_no_float() -> None:
    assert without_floats({"a": [1.5, 2.0, Decimal("0.10"), date(2026, 1, 15)]}) == {
        "a": ["1.5", 2, "0.1", "2026-01-15"]
    }
    for long in ("24." + "0" * 35 + "1", "-0.1" + "0" * 30 + "5", "1" * 30 + ".5"):
        assert without_floats(Decimal(long)) == long
    for strange in (float("nan"), {1, 2}, 1e300):
        with pytest.raises(TypeError):
            without_floats(strange)


def test_an_instant_needs_an_offset() -> None:
    with pytest.raises(ValueError, match="offset"):
        parse_instant("2026-01-15T08:00:00")
