"""`channel-gate demo`: a whole service with its own database and something in it, from nothing. `make run` runs it."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from app.cli.errors import CommandError
from app.extras import how_to_install
from app.settings import read_settings

app = typer.Typer()


@app.command("demo")
def demo(
    directory: Annotated[Path, typer.Option(help="Where the demo keeps its database and keys.")] = Path(".var"),
    remove: Annotated[
        bool, typer.Option("--remove", help="Stop the demo's database, remove it with all that is in it, and end.")
    ] = False,
) -> None:
    """Start PostgreSQL from its wheel, migrate, put demo data in, and serve on PORT (8000) until Ctrl-C."""
    try:
        from app.db import embedded
    except ImportError as error:
        raise CommandError(f"the demo needs the embedded PostgreSQL: {how_to_install('embedded')}") from error
    try:
        if remove:
            if embedded.remove_embedded(directory / "postgres"):
                typer.echo("removed the demo's database")
            return
        # A signal that comes before the service listens for it must not leave the database running.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with embedded.EmbeddedPostgres(directory / "postgres") as server:
            raise typer.Exit(_serve_demo(server.url(), directory))
    except embedded.EmbeddedPostgresError as error:
        raise CommandError(str(error)) from error


def _serve_demo(superuser_url: str, directory: Path) -> int:
    from app.cli import demo_data
    from app.db.bootstrap import Roles, bootstrap
    from app.db.schema import migrate
    from app.server.service import run_service

    settings = read_settings()
    roles = Roles(owner=settings.owner_role, serving=settings.serving_role, governance=settings.governance_role)
    urls = asyncio.run(bootstrap(superuser_url, roles=roles))
    extract = os.environ.setdefault("GATE_EXTRACT_DIRECTORY", str((directory / "extract").resolve()))
    variables = urls.environment() | {"GATE_EXTRACT_DIRECTORY": extract}
    os.environ |= variables
    os.environ.setdefault("GATE_LOG_FORMAT", "console")
    migrate(urls.owner)
    now = datetime.now(UTC)
    asyncio.run(demo_data.seed(urls.governance, now=now))
    keys = asyncio.run(demo_data.demo_keys(urls.governance, directory / "demo-keys.json"))
    demo_data.write_environment(directory / "env", variables)
    application = directory / "demo-application.json"
    demo_data.write_application(application, now=now)
    settings = read_settings()
    _introduce(settings.host, settings.port, keys, application, f"{directory}/env")
    return run_service(settings)


def _introduce(host: str, port: int, keys: dict[str, str], application: Path, environment: str) -> None:
    service = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    width = max(map(len, keys))
    lines = [
        "",
        "Demo keys (kept in demo-keys.json, good for this demo's database alone):",
        *(f"  {label:<{width}}  {text}" for label, text in keys.items()),
        "",
        "Ask for a decision:",
        f"  curl -s {service}/v1/decisions \\",
        f"    -H 'Authorization: Bearer {keys['origination']}' \\",
        f"    -H 'Content-Type: application/json' --data @{application}",
        "",
        "Use the command line on this demo:",
        f"  set -a; . {shlex.quote(environment)}; set +a",
        f"  {sys.argv[0]} policy show",
        "",
        f"API documentation: {service}/docs",
        "",
    ]
    typer.echo("\n".join(lines))
    sys.stdout.flush()
