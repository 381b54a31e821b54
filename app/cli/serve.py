"""`channel-gate serve`: run the service."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from app.settings import read_settings

app = typer.Typer()


@app.command("serve")
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; GATE_HOST otherwise.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; PORT otherwise.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes; GATE_WORKERS otherwise.")] = None,
) -> None:
    """Run the service until SIGTERM. Refuses to start on an old schema. Settings come from the environment."""
    from app.server.service import run_service

    # Through the environment, so that the workers read the same settings as their parent.
    for variable, value in {"GATE_HOST": host, "PORT": port, "GATE_WORKERS": workers}.items():
        if value is not None:
            os.environ[variable] = str(value)
    raise typer.Exit(run_service(read_settings()))
