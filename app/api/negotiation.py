"""Which of the offered media types an Accept header prefers (RFC 9110, 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence

from app.api.problems import Problem, ProblemType


def preferred_media_type(accept: str | None, offered: Sequence[str]) -> str:
    """The offered type of the highest quality; the first of them where several are equal or nothing is asked for.

    Raises:
        Problem: not-acceptable, where every offered type is excluded.
    """
    if accept is None or not accept.strip():
        return offered[0]
    ranges = [_media_range(part) for part in accept.split(",") if part.strip()]
    best = max(offered, key=lambda each: _quality(each, ranges))
    if _quality(best, ranges) <= 0:
        raise Problem(ProblemType.NOT_ACCEPTABLE, f"This answers with {' or '.join(offered)}.")
    return best


def _media_range(text: str) -> tuple[str, float]:
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return name, min(1.0, max(0.0, float(value)))
            except ValueError:
                return name, 0.0
    return name, 1.0


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality of the most specific range that covers the type."""
    family = media_type.partition("/")[0]
    for name in (media_type, f"{family}/*", "*/*"):
        found = [quality for each, quality in ranges if each == name]
        if found:
            return found[0]
    return 0.0
