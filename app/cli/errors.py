"""How a command says that it cannot do its work."""

from __future__ import annotations


class CommandError(Exception):
    """Ends a command with exit code 1; the text is the one line on standard error."""
