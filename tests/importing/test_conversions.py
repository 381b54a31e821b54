"""Text to values: exact or refused, never rounded in silence."""

from __future__ import annotations

from decimal import Decimal, localcontext
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.cli.importing import conversions
from app.cli.importing.conversions import ConversionError


@pytest.mark.parametrize(
    ("text", "scale", "expected"),
    [("500", 2, 50000), ("437.5", 2, 43750), ("0.07", 2, 7), ("1e3", 2, 100000), (".5", 2, 50), ("-3.00", 0, -3)],
)
def test_decimal_text_becomes_an_integer_at_the_scale(text: str, scale: int, expected: int) -> None:
    assert conversions.at_scale(conversions.number(text), scale) == expected


@pytest.mark.parametrize(
    "text", ["", " ", "1,000", "0x10", "NaN", "Infinity", "-", ".", "1e", "1_000", "٣", "1" * 41, "1e999"]
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ConversionError):
        conversions.number(text)


def test_a_decimal_too_many_is_refused_unless_a_rounding_is_named() -> None:
    number = conversions.number("404.991")
    with pytest.raises(ConversionError, match="at most 2 decimals"):
        conversions.at_scale(number, 2)
    assert conversions.at_scale(number, 2, "up") == 40500
    assert conversions.at_scale(number, 2, "down") == 40499
    assert conversions.at_scale(number, 2, "half_up") == 40499
    assert conversions.at_scale(conversions.number("-404.995"), 2, "half_up") == -40500


@pytest.mark.parametrize(
    ("text", "expected"), [("1.234,56", "1234.56"), ("12,5", "12.5"), ("1.234.567", "1234567"), ("-3", "-3")]
)
def test_a_decimal_comma_is_read_where_the_file_says_so(text: str, expected: str) -> None:
    assert conversions.number(text, decimal_comma=True) == Decimal(expected)


@pytest.mark.parametrize("text", ["1.23", "1.2345", "1,2,3", "1.234,5.6"])
def test_a_decimal_point_is_refused_where_commas_are_said(text: str) -> None:
    with pytest.raises(ConversionError):
        conversions.number(text, decimal_comma=True)


def test_a_number_beyond_what_a_payload_holds_is_refused() -> None:
    with pytest.raises(ConversionError, match="out of range"):
        conversions.at_scale(conversions.number("1e18"), 0)


@settings(deadline=None)
@given(st.decimals(min_value="-1e15", max_value="1e15", places=2))
def test_money_is_exact_for_any_amount_in_minor_units(amount: Decimal) -> None:
    scaled = conversions.at_scale(conversions.number(format(amount, "f")), 2)
    with localcontext(prec=50):
        assert Decimal(scaled) == amount * 100


@settings(deadline=None)
@given(st.integers(-(10**20), 10**20), st.integers(1, 10**6))
def test_rounding_up_and_down_enclose_the_quotient_by_less_than_one(numerator: int, denominator: int) -> None:
    numerator %= 10**15
    down = conversions.divide(numerator, denominator, "down", 0)
    up = conversions.divide(numerator, denominator, "up", 0)
    assert down * denominator <= numerator <= up * denominator
    assert up - down == (numerator % denominator != 0)
    assert conversions.divide(numerator, denominator, "half_up", 0) in {down, up}


def test_a_local_time_becomes_utc_by_the_mapping_s_zone() -> None:
    zone = ZoneInfo("America/New_York")
    assert conversions.instant("2016-02-23T17:29:01.940000", None, zone) == "2016-02-23T22:29:01.940000Z"
    assert conversions.instant("2016-07-01 12:00", "%Y-%m-%d %H:%M", zone) == "2016-07-01T16:00:00Z"


def test_an_offset_of_its_own_wins_over_the_zone() -> None:
    assert conversions.instant("2016-07-01T12:00:00+08:00", None, ZoneInfo("UTC")) == "2016-07-01T04:00:00Z"


def test_a_local_time_that_the_clock_change_skips_is_refused() -> None:
    with pytest.raises(ConversionError, match="exists"):
        conversions.instant("2016-03-13T02:30:00", None, ZoneInfo("America/New_York"))


def test_of_two_equal_local_times_the_first_is_meant() -> None:
    zone = ZoneInfo("America/New_York")
    assert conversions.instant("2016-11-06T01:30:00", None, zone) == "2016-11-06T05:30:00Z"


def test_a_time_without_offset_or_zone_is_refused() -> None:
    with pytest.raises(ConversionError, match="offset"):
        conversions.instant("2016-07-01T12:00:00", None, None)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:00:00-12:00"])
def test_an_instant_outside_of_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(ConversionError, match="calendar"):
        conversions.instant(text, None, None)


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("2020-02-29", None, "2020-02-29"),
        ("2020-02-29T10:00:00", None, "2020-02-29"),
        ("29.02.2020", "%d.%m.%Y", "2020-02-29"),
    ],
)
def test_a_date_becomes_iso(text: str, pattern: str | None, expected: str) -> None:
    assert conversions.calendar_date(text, pattern) == expected


@pytest.mark.parametrize("text", ["2021-02-29", "20200229x", "yesterday", "2020-02-29junk"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ConversionError):
        conversions.calendar_date(text, None)
