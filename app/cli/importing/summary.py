"""What came out of an import, as a table."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from app.cli.importing.ledger import Tally

OUTCOMES = ("accept", "escalate", "reject")
TOP_REASONS = 3


def summary(tally: Tally, title: str) -> RenderableType:
    """Accept, escalate and reject by channel with the reasons given most; then the rows without a decision by kind."""
    table = Table(title=title, title_justify="left", show_lines=True)
    table.add_column("channel")
    for outcome in ("decided", *OUTCOMES):
        table.add_column(outcome, justify="right", no_wrap=True)
    table.add_column("top reasons (rows)")
    for code, channel in sorted(tally.channels.items(), key=lambda item: -item[1].outcomes.total()):
        total = channel.outcomes.total()
        reasons = [f"{reason} ({count:,})" for reason, count in channel.reasons.most_common(TOP_REASONS)]
        table.add_row(
            code,
            f"{total:,}",
            *(f"{channel.outcomes[outcome]:,}\n{_percent(channel.outcomes[outcome], total)}" for outcome in OUTCOMES),
            Text("\n".join(reasons) or "-"),
        )
    totals = [sum(channel.outcomes[outcome] for channel in tally.channels.values()) for outcome in OUTCOMES]
    table.add_row(
        "all",
        f"{tally.decided:,}",
        *(f"{total:,}\n{_percent(total, tally.decided)}" for total in totals),
        "",
        style="bold",
    )
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in tally.rejects.most_common())
    rows = f"{tally.rows:,} rows: {tally.decided:,} decided, {tally.rejected:,} in the rejects file"
    return Group(table, Text(f"{rows} ({kinds})" if kinds else rows))


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
