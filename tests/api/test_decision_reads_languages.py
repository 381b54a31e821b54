"""Accept-Language as RFC 9110 has it, between the two languages of notices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.languages import negotiate_language
from app.screening.explanation import Language

EN, ZH = Language.ENGLISH, Language.CHINESE


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, EN),
        ("", EN),
        ("zh", ZH),
        ("ZH-cn", ZH),
        ("zh-Hans-CN", ZH),
        ("zh-TW", ZH),
        ("en-GB", EN),
        ("zh-CN, en", ZH),
        ("en, zh-CN", EN),
        ("en;q=0.5, zh;q=0.6", ZH),
        ("zh;q=0.5,en;q=0.5", ZH),
        ("en ; q=0.2 , zh ; Q=0.3", ZH),
        ("fr, zh;q=0.1", ZH),
        ("fr;q=0.9", EN),
        ("*", EN),
        ("en;q=0.2, *;q=0.9", ZH),
        ("en;q=0, *", ZH),
        ("en;q=0", ZH),
        ("zh;q=0, *", EN),
        ("en;q=0, zh;q=0", EN),
        ("zh;q=0, zh-CN", ZH),
        ("zhong", EN),
        ("zh;q=2, en", EN),
        ("zh;q=high", EN),
        ("zh;;;", EN),
        ("zh;q=0.000, en;q=0.001", EN),
    ],
)
def test_the_preferred_language_is_found(header: str | None, language: Language) -> None:
    assert negotiate_language(header) is language


@given(st.text(alphabet="enzh-*;q=0.19, ", max_size=60) | st.text(max_size=200))
def test_any_header_names_a_language(header: str) -> None:
    assert negotiate_language(header) in Language
