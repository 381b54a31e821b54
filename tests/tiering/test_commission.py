"""Commission statements: what is earned, kept back, clawed back and carried."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tiering.commission import (
    CommissionedLoan,
    CommissionTerms,
    Line,
    LineKind,
    Loss,
    claw_back_share,
    rebate_line,
    statement,
)

TERMS = CommissionTerms()
JANUARY = 24_000


def loan(**changes: Any) -> CommissionedLoan:
    given: dict[str, Any] = {
        "loan_id": "L1",
        "amount": 5_000_000,
        "tier": "general",
        "theta_mean": 1.0,
        "funded_month": JANUARY,
    }
    return CommissionedLoan(**(given | changes))


def paid(*loans: CommissionedLoan, months: int = 30, suspended_month: int | None = None) -> dict[int, dict[str, int]]:
    """What each month's statement has, by kind of line."""
    found: dict[int, dict[str, int]] = {}
    for age in range(months):
        made = statement(JANUARY + age, loans, TERMS, suspended_month=suspended_month)
        for line in made.lines:
            month = found.setdefault(age, {})
            month[line.kind] = month.get(line.kind, 0) + line.amount
    return found


def test_seventy_percent_at_funding_and_the_rest_at_month_six() -> None:
    assert paid(loan()) == {0: {"funded": 70_000}, 6: {"holdback": 30_000}}


def test_the_multiplier_and_the_tier_bound_what_is_earned() -> None:
    assert paid(loan(tier="prime", theta_mean=0.1))[0] == {"funded": round(100_000 * 1.2 * 1.2 * 0.7)}
    assert paid(loan(tier="risk", theta_mean=9.0))[0] == {"funded": round(100_000 * 0.6 * 0.7 * 0.7)}
    assert paid(loan(tier="suspended"))[0] == {"funded": 0}


def test_thirty_days_past_due_forfeits_the_holdback() -> None:
    assert paid(loan(past_due_month=6)) == {0: {"funded": 70_000}}
    assert 6 in paid(loan(past_due_month=7))


@pytest.mark.parametrize(
    ("loss", "month", "share"),
    [
        (Loss.FRAUD, 20, 1),
        (Loss.FIRST_PAYMENT_DEFAULT, 2, 1),
        (Loss.CANCELLATION, 6, 1),
        (Loss.CANCELLATION, 7, 0),
        (Loss.DEFAULT, 6, 1),
        (Loss.DEFAULT, 7, 0.5),
        (Loss.DEFAULT, 12, 0.5),
        (Loss.DEFAULT, 13, 0),
        (Loss.PREPAYMENT, 3, 0.5),
        (Loss.PREPAYMENT, 4, 0),
    ],
)
def test_what_is_clawed_back(loss: Loss, month: int, share: float) -> None:
    assert claw_back_share(loss, month) == share


def test_a_late_default_takes_half_of_all_that_was_paid() -> None:
    found = paid(loan(losses=((Loss.DEFAULT, 9),), past_due_month=7))
    assert found[9] == {"claw_back": -50_000}


def test_nothing_is_clawed_back_twice() -> None:
    found = paid(loan(losses=((Loss.PREPAYMENT, 2), (Loss.FRAUD, 5))))
    assert found == {0: {"funded": 70_000}, 2: {"claw_back": -35_000}, 5: {"claw_back": -35_000}}


losses = st.lists(st.tuples(st.sampled_from(Loss), st.integers(0, 15)), max_size=4).map(tuple)


@given(losses, st.one_of(st.none(), st.integers(1, 12)), st.integers(1, 10**9), st.floats(0, 4))
def test_a_loan_never_costs_its_channel_more_than_it_earned(
    found: tuple[tuple[Loss, int], ...], past_due: int | None, amount: int, theta: float
) -> None:
    each = loan(losses=found, past_due_month=past_due, amount=amount, theta_mean=theta)
    total = sum(sum(month.values()) for month in paid(each).values())
    assert -2 <= total <= round(TERMS.commission(amount, "general", theta))


def test_a_suspended_partners_holdback_is_kept_for_twelve_months() -> None:
    found = paid(loan(), suspended_month=JANUARY + 3)
    assert found == {0: {"funded": 70_000}, 15: {"holdback": 30_000}}
    assert paid(loan(losses=((Loss.FRAUD, 10),)), suspended_month=JANUARY + 3)[10] == {"claw_back": -70_000}


def test_a_rebate_needs_good_loans_and_few_complaints() -> None:
    line = rebate_line("2026-Q3", 1_000_000_000, 0.80, 1.0, TERMS)
    assert line == Line(kind=LineKind.REBATE, reference="2026-Q3", amount=2_000_000)
    assert rebate_line("2026-Q3", 1_000_000_000, 0.79, 1.0, TERMS) is None
    assert rebate_line("2026-Q3", 1_000_000_000, 0.95, 1.01, TERMS) is None


def test_a_negative_balance_is_carried_forward_until_it_is_earned() -> None:
    bad = loan(losses=((Loss.FRAUD, 1),))
    first = statement(JANUARY + 1, [bad], TERMS)
    assert (first.payable, first.carried, first.total) == (0, -70_000, -70_000)
    second = statement(JANUARY + 2, [loan(loan_id="L2", funded_month=JANUARY + 2)], TERMS, carried=first.carried)
    assert [line.kind for line in second.lines] == [LineKind.CARRIED_FORWARD, LineKind.FUNDED]
    assert (second.payable, second.carried) == (0, 0)


def test_the_order_of_loans_is_irrelevant() -> None:
    loans = [loan(loan_id=f"L{number}") for number in range(5)]
    assert statement(JANUARY, loans, TERMS) == statement(JANUARY, loans[::-1], TERMS)
