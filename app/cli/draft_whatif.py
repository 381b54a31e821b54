"""`channel-gate drafts what-if`: decide the log again under a draft, and store the report with it."""

from __future__ import annotations

import typer

from app.cli.drafts import DraftId, read_draft
from app.cli.drafts import app as draft_commands
from app.cli.governance import Actor, change_of, governed
from app.cli.whatif import (
    Channels,
    Directory,
    ExposurePct,
    LossPct,
    Probabilities,
    Reviewers,
    Since,
    Until,
    economics_of,
    extract_directory,
    log_extract,
    require_extra,
    run_what_if,
    selected,
    show_report,
)
from app.domain.compiler import compile_policy
from app.governance.reports import put_report


@draft_commands.command("what-if")
def what_if_on_draft(
    *,
    draft_id: DraftId,
    actor: Actor,
    since: Since = None,
    until: Until = None,
    channel: Channels = None,
    pd: Probabilities = None,
    lgd_pct: LossPct = 65,
    ead_pct: ExposurePct = 75,
    reviewers: Reviewers = None,
    extract: Directory = None,
) -> None:
    """Decide the log again under a draft, show what changes, and store the report whose digest an approval names.

    Ctrl-C cancels it, and nothing is stored then.
    """
    require_extra()
    draft = read_draft(draft_id)
    economics = economics_of(pd, lgd_pct, ead_pct)
    source = log_extract(extract_directory(extract), selected(since, until, channel))
    report = run_what_if(source, compile_policy(draft.document()), None, economics, reviewers)
    text = report.content.decode()
    stored = governed(lambda link: put_report(link, draft, text, change=change_of(actor)))
    show_report(report)
    typer.echo(f"stored as report {stored.report_id} of draft {draft_id}")
