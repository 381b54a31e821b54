"""`channel-gate settings`: what can be set, as the table of docs/settings.md."""

from __future__ import annotations

import typer

from app.settings import settings_reference

app = typer.Typer()


@app.command("settings")
def settings() -> None:
    """Print every setting with its default and its meaning, as a Markdown table."""
    typer.echo(settings_reference(), nl=False)
