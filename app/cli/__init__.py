"""The command `channel-gate`. Each module of this package that defines `app` is a command, or a group if it has a name.

A command that cannot do its work says why in one line on standard error and ends with 1; a wrong call ends with 2.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from typing import Annotated

import asyncpg
import typer
from sqlalchemy.exc import DBAPIError

from app.cli.errors import CommandError
from app.db.schema import SchemaError
from app.observability.tracing import TracingError
from app.settings import SettingsError
from app.version import VERSION

_TOLD_IN_ONE_LINE = (CommandError, SettingsError, SchemaError, TracingError, OSError, asyncpg.PostgresError, DBAPIError)


def build_app() -> typer.Typer:
    """The command line with every command of this package."""
    root = typer.Typer(
        name="channel-gate",
        help="Decide loan applications by the channel that they come through.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    root.callback()(_root)
    for found in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{found.name}")
        commands = getattr(module, "app", None)
        if isinstance(commands, typer.Typer):
            root.add_typer(commands)
    return root


def main() -> None:
    """The entry point of the script."""
    try:
        build_app()()
    except _TOLD_IN_ONE_LINE as error:
        typer.echo(f"error: {one_line(error)}", err=True)
        sys.exit(1)


def one_line(error: BaseException) -> str:
    """What went wrong, without the details in which PostgreSQL repeats values."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return str(cause).strip().partition("\n")[0] or type(cause).__name__


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(VERSION)
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Takes the options that stand before the command."""
