"""The state machine: facts that come in order walk along it, and any order of them ends in the same place."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from app.outcomes.feeds import expected_through
from app.outcomes.state import MACHINE, Decided, Fact, Kind, Status, drawing, fold

DAY = date(2026, 1, 10)
ACCEPT = Decided(outcome="accept", amount=100, currency="CNY")


def fact(kind: Kind, day: int, amount: int | None = None, late: int | None = None) -> Fact:
    """A fact of one day, told from others of its kind by the day."""
    return Fact(
        kind=kind,
        discriminator=str(day) if kind is Kind.PERFORMANCE else "",
        digest=repr((day, amount, late)).encode(),
        occurred_on=DAY + timedelta(days=day),
        amount=amount,
        days_past_due=late,
    )


FACTS = st.one_of(
    st.builds(fact, st.sampled_from([Kind.FUNDED]), st.integers(0, 9), st.integers(1, 120)),
    st.builds(fact, st.sampled_from([Kind.PERFORMANCE]), st.integers(0, 9), st.none(), st.sampled_from([0, 5, 40])),
    st.builds(
        fact,
        st.sampled_from([Kind.WITHDRAWN, Kind.CANCELLED, Kind.EXPIRED, Kind.PAID_OFF, Kind.CHARGED_OFF, Kind.FRAUD]),
        st.integers(0, 9),
    ),
)


@given(st.lists(FACTS, max_size=8).flatmap(lambda facts: st.tuples(st.just(facts), st.permutations(facts + facts[:3]))))
def test_any_order_and_any_repetition_of_facts_gives_the_same_state(told: tuple[list[Fact], list[Fact]]) -> None:
    once, again = told
    assert fold(once, ACCEPT) == fold(again, ACCEPT)


@given(
    st.lists(FACTS, max_size=8, unique_by=lambda each: (each.kind, each.discriminator)),
    st.sampled_from([None, "accept", "escalate", "reject"]),
)
def test_facts_that_come_in_order_and_agree_move_along_the_machine(facts: list[Fact], outcome: str | None) -> None:
    decided = None if outcome is None else Decided(outcome=outcome, amount=100, currency="CNY")
    ordered = sorted(facts, key=lambda each: (each.occurred_on, each.kind is not Kind.FUNDED, each.kind))
    before = fold([], decided)
    for count in range(1, len(ordered) + 1):
        after = fold(ordered[:count], decided)
        if before.flags or after.flags:
            return
        assert after.status == before.status or after.status in MACHINE[before.status].values()
        before = after


def test_a_state_that_nothing_leaves_is_where_facts_end() -> None:
    final = {status for status, moves in MACHINE.items() if not moves}
    assert final == {
        *(Status.REJECTED, Status.WITHDRAWN, Status.CANCELLED, Status.EXPIRED, Status.DECLINED_DOWNSTREAM),
    }
    assert set(MACHINE) == set(Status)


def test_the_drawing_in_the_docs_is_that_of_the_machine() -> None:
    page = (Path(__file__).parents[2] / "docs" / "outcomes.md").read_text(encoding="utf-8")
    assert f"```mermaid\n{drawing()}\n```" in page


def test_a_feed_is_late_ten_days_after_the_end_of_a_month_that_it_lacks() -> None:
    assert expected_through(date(2026, 11, 10)) == date(2026, 9, 30)
    assert expected_through(date(2026, 11, 11)) == date(2026, 10, 31)
