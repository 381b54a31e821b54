"""The parts that are installed only where they are wanted, as `pyproject.toml` names them."""

from __future__ import annotations

from typing import Literal, TypeAlias

Extra: TypeAlias = Literal["embedded", "parquet", "tiering", "tracing", "whatif"]


def how_to_install(extra: Extra) -> str:
    """The command that adds an extra to the environment of a clone."""
    return f".venv/bin/python -m pip install -e '.[{extra}]'"
