"""Draws the plots of docs/re-tiering.md and prints its worked example, from one history of the ordinary world.

`make tiering-plots`: writes docs/images/re-tiering-*.svg.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from app.domain.compiler import compile_policy
from app.policies.defaults import default_policy
from app.simulation.life import BEFORE, Life
from app.simulation.trial import histories
from app.simulation.world import ORDINARY
from app.tiering.change_point import last_change_weights
from app.tiering.explanation import explain
from app.tiering.policy import DEFAULT

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SEED = 2026
_TIER_COLOURS = {-1: "#dddddd", 0: "#cfe8cf", 1: "#ffffff", 2: "#f6d5cf", 3: "#c9c9c9"}


def main() -> None:
    """Live one history, draw, and print."""
    mpl.rcParams.update({"svg.hashsalt": "channel-gate", "font.size": 8, "svg.fonttype": "none"})
    IMAGES.mkdir(exist_ok=True)
    gate = compile_policy(default_policy(), version=1)
    life = next(histories(ORDINARY, gate, DEFAULT, repetitions=1, seed=SEED))
    changed = _channel(lambda plan: plan.role == "changes" and plan.monthly_loans == 100)
    poor = _channel(lambda plan: plan.role == "average, poor mix" and plan.monthly_loans == 100)
    _draw(life, changed, "changed", "a channel of 100 loans a month that becomes 2.5 times as risky in month 12")
    _draw(life, poor, "poor-mix", "an average channel whose people have low scores")
    _tell(life, changed)


def _channel(which: object) -> int:
    assert callable(which)
    return next(number for number, plan in enumerate(ORDINARY.channels) if which(plan))


def _draw(life: Life, channel: int, name: str, title: str) -> None:
    months = np.arange(life.world.months)
    plan = life.world.channels[channel]
    figure, (business, belief) = plt.subplots(2, 1, figsize=(7.2, 4.6), sharex=True, layout="constrained")
    figure.suptitle(title, fontsize=9)
    business.bar(months, life.trace.funded[:, channel], color="#7a8fb3", width=0.8)
    business.set_ylabel("loans funded")
    beliefs = [review.assessments[channel].change_point for review in life.reviews]
    mean = np.array([each.mean for each in beliefs])
    low, high = (np.array([each.quantile(q) for each in beliefs]) for q in (0.05, 0.95))
    belief.fill_between(months, low, high, color="#7a8fb3", alpha=0.35, label="believed, 90 %")
    belief.plot(months, mean, color="#2f4a7d", label="believed, mean")
    belief.step(months, [plan.theta_at(month) for month in months], where="mid", color="#b03a2e", label="true")
    belief.axhline(1.3, color="#888888", linestyle=":", linewidth=0.8)
    belief.set_ylabel("relative risk")
    belief.set_xlabel("month")
    belief.set_ylim(0, 3.2)
    belief.legend(loc="upper left", fontsize=7, frameon=False)
    for axes in (business, belief):
        _shade(axes, life, channel)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(IMAGES / f"re-tiering-{name}.svg", metadata={"Date": None})
    plt.close(figure)


def _shade(axes: Axes, life: Life, channel: int) -> None:
    """Behind each month, the tier it ended in; a line where the channel is on watch."""
    for month in range(life.world.months):
        axes.axvspan(month - 0.5, month + 0.5, color=_TIER_COLOURS[int(life.trace.tier[month, channel])], zorder=-2)
        if life.trace.watched[month, channel]:
            axes.plot([month - 0.5, month + 0.5], [0, 0], color="#d68910", linewidth=5, solid_capstyle="butt")


def _tell(life: Life, channel: int) -> None:
    """The review that moved the channel, in sentences, and the cohorts that it looked at."""
    month = int((life.trace.tier[:, channel] == 2).argmax())
    review = life.reviews[month]
    assessment = review.assessments[channel]
    print(f"month {month}: nu {review.nu:.2f}, kappa {assessment.kappa:.3f}, stops {review.stops}")
    for sentence in explain(life.before[month][channel], assessment, DEFAULT):
        print(f"> {sentence}")
    book = life.book()
    hazards = life.reference.hazards
    first = max(0, month - 11)
    observed, expected = np.zeros(month - first + 1), np.zeros(month - first + 1)
    for cohort in range(first, month + 1):
        loans = book.where((book.unit == channel) & (book.funded_month == cohort + BEFORE))
        age = month - cohort
        watched = np.minimum(np.where(loans.event_month > 0, loans.event_month, 12), age)
        watched = np.minimum(watched, np.where(loans.exit_month > 0, loans.exit_month, 12))
        reached = np.arange(1, 13)[None, :] <= watched[:, None]
        expected[cohort - first] = (hazards[loans.segment] * reached).sum() * assessment.kappa
        observed[cohort - first] = ((loans.event_month > 0) & (loans.event_month <= age)).sum()
    weights = last_change_weights(
        review.nu, observed[None, :], expected[None, :], DEFAULT.change_point.monthly_change_probability
    )[0]
    print("| funded in month | went bad | expected | it began here with probability |\n|---|---|---|---|")
    for cohort in range(first, month + 1):
        cell = cohort - first
        print(f"| {cohort} | {observed[cell]:.0f} | {expected[cell]:.1f} | {weights[cell]:.2f} |")


if __name__ == "__main__":
    main()
