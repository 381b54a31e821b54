"""Arithmetic on columns is that of Python's integers, at any size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.fields import FieldKind, declare_attribute
from app.domain.money import annuity_factor
from app.domain.policy import Op
from app.domain.requirements import OPERATORS
from app.whatif.arrays import LARGEST, SATURATED, AnnuityTable, quotients, sums

_NUMBERS = st.integers(0, 1_000) | st.integers(0, 10**15) | st.integers(0, 10**18)
_DIVISORS = st.integers(1, 10_000) | st.integers(1, 10**15)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(_NUMBERS, _NUMBERS, _DIVISORS), min_size=1, max_size=20), st.booleans())
def test_quotients_are_exact_and_saturate(rows: list[tuple[int, int, int]], up: bool) -> None:
    amounts, factors, divisors = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    exact = [-(-a * f // d) if up else a * f // d for a, f, d in rows]
    assert quotients(amounts, factors, divisors, up=up).tolist() == [min(each, SATURATED) for each in exact]


@pytest.mark.parametrize("up", [False, True])
def test_the_largest_product_that_fits_and_the_first_that_does_not(up: bool) -> None:
    amounts = np.array([3, 3, 1], np.int64)
    factors = np.array([LARGEST // 3, LARGEST // 3 + 1, LARGEST], np.int64)
    divisors = np.array([7, 7, 7], np.int64)
    exact = [3 * (LARGEST // 3), 3 * (LARGEST // 3 + 1), LARGEST]
    expected = [-(-each // 7) if up else each // 7 for each in exact]
    assert quotients(amounts, factors, divisors, up=up).tolist() == expected


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2**62)), max_size=40))
def test_sums_of_groups_are_exact_beyond_64_bits(rows: list[tuple[int, int]]) -> None:
    groups = np.array([group for group, _ in rows], np.intp)
    amounts = np.array([amount for _, amount in rows], np.int64)
    expected = [sum(amount for group, amount in rows if group == each) for each in range(5)]
    assert sums(groups, amounts, 5) == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 100_000), st.integers(1, 480)), min_size=1, max_size=10))
def test_the_table_of_annuities_holds_the_domains_own_factors(pairs: list[tuple[int, int]]) -> None:
    rates, terms = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    expected = [annuity_factor(rate, term) for rate, term in pairs]
    assert TABLE.factors(rates, terms).tolist() == expected
    assert TABLE.factors(rates, terms).tolist() == expected  # from the table, this time


TABLE = AnnuityTable()


def test_every_operator_is_declared_in_both_forms() -> None:
    assert set(OPERATORS) == set(Op)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(Op)), st.lists(st.integers(-5, 5), max_size=10), st.data())
def test_both_forms_of_an_operator_say_the_same(op: Op, values: list[int], data: st.DataObject) -> None:
    several = op in {Op.ONE_OF, Op.NONE_OF}
    options = st.frozensets(st.integers(-5, 5), min_size=1, max_size=4) if several else st.integers(-5, 5)
    threshold = data.draw(options)
    form = OPERATORS[op]
    assert form.column(np.array(values, np.int64), threshold).tolist() == [
        form.value(value, threshold) for value in values
    ]


def test_a_number_is_declared_within_what_a_column_holds() -> None:
    field = declare_attribute(name="n", kind=FieldKind.NUMBER)
    assert -LARGEST < field.minimum <= field.maximum < LARGEST
