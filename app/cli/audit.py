"""`channel-gate audit`: the hash-chained log of every admin change."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import orjson
import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cli.errors import CommandError
from app.cli.governance import governed
from app.retention.audit import Anchor, ChainError, export_rows, verify_chain
from app.screening.bundle import decision_bundle

app = typer.Typer(name="audit", help="Verify and export the log of admin changes.", no_args_is_help=True)


@app.command("verify")
def verify(
    anchor: Annotated[
        Path | None, typer.Option(help="File with an earlier head: a chain alone cannot see that its tail was cut.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=0, help="Rows of an earlier head; goes with --head.")] = None,
    head: Annotated[str | None, typer.Option(help="Hash of an earlier head, in hex; goes with --count.")] = None,
    write_anchor: Annotated[
        Path | None, typer.Option(help="Write the verified head here, for the next time. Keep it outside the database.")
    ] = None,
) -> None:
    """Walk the whole chain; name the first row that was changed, removed, inserted or cut off."""
    earlier = _anchor(anchor, count, head)

    async def work(connection: AsyncConnection) -> Anchor:
        return await verify_chain(connection, earlier)

    try:
        verified = governed(work, "REPEATABLE READ")
    except ChainError as error:
        raise CommandError(str(error)) from None
    if write_anchor is not None:
        write_anchor.write_text(verified.to_json() + "\n", encoding="utf-8")
    typer.echo(f"{verified.sequence} rows, head {verified.hash.hex()}")


@app.command("export")
def export(
    after: Annotated[int, typer.Option(min=0, help="Begin after this row.")] = 0,
) -> None:
    """Write the log as NDJSON to standard output, with what it takes to walk the chain elsewhere."""

    async def work(connection: AsyncConnection) -> None:
        async for line in export_rows(connection, after=after):
            sys.stdout.write(line + "\n")

    governed(work, "REPEATABLE READ")


@app.command("bundle")
def bundle(decision_id: Annotated[UUID, typer.Argument(help="`decision_id` of the decision.")]) -> None:
    """Print all about one decision as JSON: input, policy, who approved it, tier, channel, rows of the logs."""

    async def work(connection: AsyncConnection) -> dict[str, Any] | None:
        return await decision_bundle(connection, decision_id)

    found = governed(work, "REPEATABLE READ")
    if found is None:
        raise CommandError("the log has no decision of that id")
    typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())


def _anchor(path: Path | None, count: int | None, head: str | None) -> Anchor | None:
    if (count is None) != (head is None) or (path is not None and head is not None):
        raise typer.BadParameter("give an anchor file, or a head and its count")
    try:
        if path is not None:
            return Anchor.from_json(path.read_text(encoding="utf-8"))
        if count is not None and head is not None:
            return Anchor(sequence=count, hash=bytes.fromhex(head))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return None
