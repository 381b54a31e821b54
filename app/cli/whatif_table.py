"""A what-if's report for a person at a terminal."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from app.whatif.report import Report

_SHOWN_EXAMPLES = 3
_SHOWN_REASONS = 6
_OUTCOMES = ("accept", "escalate", "reject", "refused")
_UNKNOWN = "unknown"


def print_report(report: Report, console: Console) -> None:
    """The matrix by channel and tier, the flips with their reasons, and what it means in money and in work."""
    document: dict[str, Any] = report.document
    draft, source = document["draft"], document["source"]
    console.print(f"{document['decisions']:,} decisions decided again under {draft['name']} ({draft['digest'][:12]})")
    left_out = source.get("left_out") or {key: source[key] for key in ("erased", "unreadable") if source.get(key)}
    if left_out:
        console.print("left out: " + ", ".join(f"{count:,} {name}" for name, count in left_out.items()))
    if document["without_recorded_outcome"]:
        console.print(f"{document['without_recorded_outcome']:,} have no recorded outcome and are counted after alone")
    console.print(_matrix(document["matrix"]))
    for flip in document["flips"]:
        _print_flip(flip, console)
    for name, count in document["refused_because"].items():
        console.print(f"the draft would refuse {count:,} for their {name}")
    _print_money(document, console)
    _print_reviews(document["reviews"], console)
    took = report.measured["hot_path_microseconds"]
    assert isinstance(took, dict)
    if took["rows"]:
        console.print(
            f"one decision under the draft on the hot path: {took['p50']:,} µs (p50), {took['p95']:,} µs (p95), "
            f"of {took['rows']:,} that were decided both ways and alike"
        )
    console.print(f"report {report.digest.hex()}")


def _matrix(cells: list[dict[str, Any]]) -> Table:
    """A line for each channel and tier: outcomes before -> after, and how many are not what they were."""
    before: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    after: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    changed: dict[tuple[str, str], int] = defaultdict(int)
    for cell in cells:
        place = (cell["channel"], cell["tier"])
        before[place][cell["before"]] += cell["decisions"]
        after[place][cell["after"]] += cell["decisions"]
        changed[place] += cell["decisions"] * (cell["before"] not in {cell["after"], _UNKNOWN})
    table = Table(title="before → after")
    for name in ("channel", "tier"):
        table.add_column(name)
    for name in (*_OUTCOMES, "changed"):
        table.add_column(name, justify="right")
    for place in sorted(before):
        pairs = [(before[place][outcome], after[place][outcome]) for outcome in _OUTCOMES]
        shown = [f"{one:,} → {other:,}" if one != other else f"{one:,}" for one, other in pairs]
        table.add_row(*place, *shown, f"{changed[place]:,}")
    return table


def _print_flip(flip: dict[str, Any], console: Console) -> None:
    console.print(f"{flip['before']} → {flip['after']}: {flip['decisions']:,} ({flip['amount']:,} asked for)")
    for key, words in (("reasons_gained", "now fail"), ("reasons_lost", "no longer fail")):
        ranked = sorted(flip[key].items(), key=lambda item: (-item[1], item[0]))[:_SHOWN_REASONS]
        if ranked:
            console.print(f"  {words}: " + ", ".join(f"{code} {count:,}" for code, count in ranked))
    examples = [f"{example['id']} ({example['channel']})" for example in flip["examples"][:_SHOWN_EXAMPLES]]
    console.print("  such as " + ", ".join(examples))


def _print_money(document: dict[str, Any], console: Console) -> None:
    exposure, loss, currency = document["exposure"], document["expected_loss"], document["currency"]
    amount = exposure["accepted_amount"]
    console.print(f"accepted: {_change(exposure['accepted'])}; amount {_change(amount)} (minor units of {currency})")
    console.print(f"counter-offers: {_change(exposure['counter_offers'])}")
    if loss["known"]:
        assumed = f"LGD {loss['lgd_pct']} %, EAD {loss['ead_pct']} %"
        console.print(f"expected loss: {_change(loss)} (minor units of {currency}; {assumed})")
    else:
        console.print("expected loss: unknown, since an accepted amount has no probability of default (--pd)")
    for name, words in (("swap_in", "newly accepted"), ("swap_out", "no longer accepted")):
        swap = document["repayment"][name]
        known = f"{swap['repaid']:,} of {swap['known']:,} known ones repaid" if swap["known"] else "repayment unknown"
        console.print(f"{words}: {swap['decisions']:,}, {known}")


def _print_reviews(reviews: dict[str, Any], console: Console) -> None:
    before, after = reviews["before"], reviews["after"]
    busiest = f"{after['busiest_day']:,} on the busiest of {reviews['days']:,} days"
    if before is not None:
        busiest = f"{before['busiest_day']:,} → {busiest}"
    console.print(
        f"waiting for a reviewer: {busiest}; that day needs {after['reviewers_for_the_busiest_day']:,} reviewers "
        f"of {reviews['cases_a_reviewer_a_day']} cases a day"
    )
    if reviews["reviewers"] is not None:
        console.print(f"days above what {reviews['reviewers']:,} reviewers can do: {after['days_above_capacity']:,}")


def _change(sides: dict[str, int]) -> str:
    return f"{sides['before']:,} → {sides['after']:,} ({sides['after'] - sides['before']:+,})"
