"""What the method must do in the ordinary world, as one looks at a table of findings."""

from __future__ import annotations

from dataclasses import dataclass

from app.simulation.trial import Finding, Group, Trial, is_steady


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """A promise, what was measured, and whether it is kept."""

    promise: str
    measured: str
    kept: bool


def criteria(trial: Trial) -> tuple[Criterion, ...]:
    """The acceptance of the domain's section 4, and the median suspension that is asked besides."""
    average = trial.finding(Group(title="", who=lambda plan: is_steady(plan, 1.0)))
    bad = trial.finding(Group(title="", who=lambda plan: is_steady(plan, 2.5) and plan.monthly_loans >= 50))
    changed = trial.finding(
        Group(
            title="",
            who=lambda plan: plan.changes_in is not None and plan.monthly_loans == 100,
            since_change=True,
        )
    )
    return (
        Criterion(
            promise="theta 1 ever in the worst tier: at most 2 %",
            measured=f"{100 * average.in_worst:.1f} % of {average.cases}",
            kept=average.in_worst <= 0.02,
        ),
        Criterion(
            promise="theta 2.5, n >= 50, in the worst tier within 12 months: at least 95 %",
            measured=f"{100 * bad.within_year:.1f} % of {bad.cases}",
            kept=bad.within_year >= 0.95,
        ),
        Criterion(
            promise="theta 2.5, n >= 50, out of business: median at most 18 months",
            measured=_months(bad.months_to_suspension),
            kept=bad.months_to_suspension is not None and bad.months_to_suspension <= 18,
        ),
        Criterion(
            promise="1 -> 2.5 at n = 100 found: median at most 6 months",
            measured=_months(changed.months_to_worst),
            kept=changed.months_to_worst is not None and changed.months_to_worst <= 6,
        ),
    )


HEADS = (
    "channels",
    "cases",
    "in worst",
    "within 12",
    "month",
    "found",
    "suspended",
    "month",
    "in best",
    "naive: bad",
)
"""The heads of `row`'s cells. Months are medians; `found`: until a review found any reason to move it down."""


def row(finding: Finding) -> tuple[str, ...]:
    """A finding as a table shows it."""
    return (
        finding.title,
        str(finding.cases),
        _percent(finding.in_worst),
        _percent(finding.within_year),
        _months(finding.months_to_worst),
        _months(finding.months_to_found),
        _percent(finding.suspended),
        _months(finding.months_to_suspension),
        _percent(finding.in_best),
        _percent(finding.naive),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _months(months: float | None) -> str:
    return "-" if months is None else f"{months:g}"
