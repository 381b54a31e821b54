"""Which language a caller prefers (RFC 9110, section 12.5.4; ranges are looked up as in RFC 4647, section 3.4)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from app.screening.explanation import Language

CONTENT_LANGUAGES: Mapping[Language, str] = {Language.ENGLISH: "en", Language.CHINESE: "zh-CN"}
"""What the `Content-Language` header says."""

_RANGE = re.compile(
    r"(\*|[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*)[ \t]*(?:;[ \t]*[qQ][ \t]*=[ \t]*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?"
)
_MAX_RANGES = 32


def negotiate_language(header: str | None) -> Language:
    """The language that an Accept-Language header prefers, English where it has no preference among ours.

    A range that does not parse is passed over. A range of quality 0 excludes its language while another one is left.
    """
    ranges = list(_ranges(header or ""))
    qualities = {language: _quality(language, ranges) for language in Language}
    wanted = [language for language, quality in qualities.items() if quality]
    if wanted:
        return max(wanted, key=lambda language: (qualities[language], -_first_mention(language, ranges)))
    refused = {language for language, quality in qualities.items() if quality == 0}
    return next((language for language in Language if language not in refused), Language.ENGLISH)


def _ranges(header: str) -> Iterator[tuple[str, float]]:
    for part in header.split(",")[:_MAX_RANGES]:
        match = _RANGE.fullmatch(part.strip())
        if match is not None:
            yield match[1].lower(), float(match[2] or 1)


def _quality(language: Language, ranges: list[tuple[str, float]]) -> float | None:
    """The best quality among the ranges that name the language, else that of `*`; None: not mentioned at all."""
    named = [quality for range_, quality in ranges if _names(range_, language)]
    return max(named or [quality for range_, quality in ranges if range_ == "*"], default=None)


def _first_mention(language: Language, ranges: list[tuple[str, float]]) -> int:
    return next((i for i, (range_, _) in enumerate(ranges) if _names(range_, language)), len(ranges))


def _names(range_: str, language: Language) -> bool:
    return range_.partition("-")[0] == language.value
