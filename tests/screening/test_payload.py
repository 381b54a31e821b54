"""Numbers of a request are read as they are written, or refused: no float decides."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.api.examples import APPLICATION
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy
from app.domain.errors import ApplicationError
from app.domain.intake import read_application
from app.policies.defaults import default_policy
from app.screening.payload import read_payload

SCALE = 4


def with_number() -> CompiledPolicy:
    document = default_policy()
    document["attributes"] = [{"name": "n", "kind": "number", "scale": SCALE, "minimum": -(10**6)}]
    return compile_policy(document)


POLICY = with_number()


def body(percent: str, attribute: str = "0", **changes: Any) -> bytes:
    """The example with two numbers as they are written."""
    holes = APPLICATION | changes | {"all_in_apr_pct": "PERCENT", "attributes": {"n": "NUMBER"}}
    text = json.dumps(holes).replace('"PERCENT"', percent).replace('"NUMBER"', attribute)
    return text.encode()


def values(percent: str, attribute: str = "0") -> tuple[int, int] | None:
    """Both numbers as the rules see them; None where the request is refused."""
    try:
        read = read_application(read_payload(body(percent, attribute)), POLICY).values
    except (ValidationError, ApplicationError):
        return None
    return int(read["all_in_apr_pct"]), int(read["attributes.n"])


_DIGITS = st.text("0123456789", min_size=1, max_size=24) | st.sampled_from(("0" * 20 + "1", "9" * 18, "5" + "0" * 20))
_EXPONENTS = st.just("") | st.integers(-400, 30).map(lambda power: f"e{power}") | st.sampled_from(("E+2", "e-02"))


@st.composite
def literals(draw: st.DrawFn) -> str:
    """A number of JSON with a fraction or an exponent or neither, of any length."""
    whole = draw(_DIGITS.filter(lambda digits: len(digits) < 4) | _DIGITS).lstrip("0") or "0"
    return draw(st.sampled_from(("", "-"))) + whole + draw(st.just("") | _DIGITS.map(".{}".format)) + draw(_EXPONENTS)


@example("24.0000000000000001", "0")
@example("0", "0.00010000000000000000001")
@example("1e-400", "1e-400")
@example("2400000000000000000001e-20", "0")
@given(literals(), literals())
def test_a_number_is_exactly_what_is_written_or_refused(percent: str, attribute: str) -> None:
    read = values(percent, attribute)
    if read is not None:
        assert Decimal(read[0]) == Decimal(percent) * 100
        assert Decimal(read[1]) == Decimal(attribute) * 10**SCALE


_ZEROS = st.integers(0, 20).map("0".__mul__)


@given(st.integers(0, 100_000), st.integers(-(10**6), 10**14), _ZEROS, _ZEROS)
def test_a_number_at_its_scale_is_taken_however_many_zeros_follow(
    percent: int, attribute: int, zeros: str, more: str
) -> None:
    texts = f"{Decimal(percent).scaleb(-2):f}{zeros}", f"{Decimal(attribute).scaleb(-SCALE):f}{more}"
    assert values(*texts) == (percent, attribute)


@pytest.mark.parametrize("places", [("24.0000000000000001", "0"), ("0", "1e-400"), ("1e-400", "0.30000000000000004")])
def test_a_refusal_names_every_number_that_a_float_would_round(places: tuple[str, str]) -> None:
    with pytest.raises(ValidationError) as refused:
        read_payload(body(*places))
    named = [error["loc"] for error in refused.value.errors()]
    exact = {"0", "0.30000000000000004"}  # the second is the shortest form of its float
    pointers = (("all_in_apr_pct",), ("attributes", "n"))
    assert named == [pointer for pointer, text in zip(pointers, places, strict=True) if text not in exact]


def test_digits_of_an_identifier_are_no_number() -> None:
    long = body("18.5", "0.5", application_id="0123456789012345678901234567890", sub_id="1.00000000000000000000001")
    assert read_payload(long)["all_in_apr_pct"] == 18.5
