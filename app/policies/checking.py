"""Everything that a document must pass before it is published: it compiles, and decides its own cases as they say."""

from __future__ import annotations

from app.domain.cases import check_cases
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy
from app.domain.errors import PolicyError


def checked_policy(document: object) -> CompiledPolicy:
    """The compiled policy of a document as parsed from JSON or YAML.

    Raises:
        PolicyError: with every fault, each with its row and column; a case that is decided otherwise is one.
    """
    compiled = compile_policy(document)
    problems = check_cases(compiled)
    if problems:
        raise PolicyError(problems)
    return compiled
