"""What the code says that the service has: settings, commands, routes and metrics."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import typer
from prometheus_client.metrics import MetricWrapperBase
from typer.core import TyperCommand, TyperGroup

from app.cli import build_app
from app.observability import exposition, metrics
from app.settings import Settings, variable_name

ROOT = Path(__file__).resolve().parents[2]

DRIVER_VARIABLES = frozenset({"PGSSLMODE", "PGSSLROOTCERT"})
"""Read by asyncpg itself."""


def project_version() -> str:
    """The version in pyproject.toml."""
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return version


def setting_variables() -> dict[str, str]:
    """Environment variable -> field of the settings."""
    return {variable_name(name): name for name in Settings.model_fields}


def require_settings(variables: Mapping[str, str]) -> None:
    """Read these variables together as the service would.

    Raises:
        KeyError: where the service reads no such variable.
        pydantic.ValidationError: where it refuses a value.
    """
    fields = setting_variables()
    Settings.model_validate({fields[variable]: value for variable, value in variables.items()})


def default_setting(field: str) -> int:
    """The default of a numeric setting."""
    default: int = Settings.model_fields[field].default
    return default


@cache
def _command_line() -> TyperCommand | TyperGroup:
    return typer.main.get_command(build_app())


def parse_command(arguments: Sequence[str]) -> str:
    """The whole name of the command that `channel-gate <arguments>` runs, its options parsed and nothing executed.

    Raises:
        Exception: a usage error, where there is no such command, option or value.
    """
    command = _command_line()
    names, rest, parent = ["channel-gate"], list(arguments), None
    while True:
        context = command.make_context(names[-1], rest, parent=parent)
        if not isinstance(command, TyperGroup):
            return " ".join(names)
        name, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert name is not None
        assert found is not None
        names.append(name)
        command, parent = found, context


def has_command(names: Sequence[str]) -> bool:
    """Whether `channel-gate <names> --help` finds a command or a group."""
    command = _command_line()
    for name in names:
        if not isinstance(command, TyperGroup) or name not in command.commands:
            return False
        command = command.commands[name]
    return True


@cache
def routes() -> frozenset[str]:
    """The templates of every path that the service answers."""
    from app.api.factory import make_app

    nowhere = "postgresql://nobody@127.0.0.1/nothing"  # nothing is connected before the service starts
    api = make_app(Settings.model_validate({"database_url": nowhere, "governance_database_url": nowhere})).api
    return frozenset(api.openapi()["paths"])


def metric_labels() -> dict[str, frozenset[str]]:
    """Name of every sample that /metrics can show -> its labels."""
    return dict(_samples())


def _samples() -> Iterator[tuple[str, frozenset[str]]]:
    for value in vars(metrics).values():
        if isinstance(value, metrics.LateGauge):
            labels = {"pid"} if value._mode == "liveall" else set()
            yield value._name, frozenset(labels)
        elif isinstance(value, MetricWrapperBase):
            labels = set(value._labelnames)
            if value._type == "counter":
                yield f"{value._name}_total", frozenset(labels)
            elif value._type == "histogram":
                yield f"{value._name}_bucket", frozenset(labels | {"le"})
                yield f"{value._name}_sum", frozenset(labels)
                yield f"{value._name}_count", frozenset(labels)
            else:
                yield value._name, frozenset(labels)
    yield exposition.SNAPSHOT_AGE, frozenset()
