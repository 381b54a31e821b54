"""Rows to requests: what a mapping makes of a row, and what it says of one that is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.cli.importing.mapper import Mapper, RowProblem, RowRefusedError
from app.cli.importing.mapping import MappingError, parse_mapping
from app.screening.payload import PAYLOAD
from tests.importing.test_mapping import MINIMAL

ROW = {"id": "a-1", "source": "search-ads", "wanted": "5000"}
FULL = (
    MINIMAL
    + """\
  applicant.monthly_income: {column: income, as: money, null_values: ["0"], if_null: not_found}
  applicant.employment_months: {column: years_employed, as: months, unit: years, rounding: down}
  applicant.birth_date: {column: born, as: date, format: "%d/%m/%Y"}
  all_in_apr_pct: {column: rate, as: percent, unit: fraction}
  submitted_at: {column: at, as: instant, timezone: Asia/Shanghai}
  bureau.hit: {column: hit, as: boolean}
  bureau.score: {column: score, as: number, optional: true, if_null: source_error}
attributes:
  pay: {column: pay, map: {W: weekly, M: monthly}, if_null: not_found}
  ltv: {ratio: [wanted, debt], over: value, if_null: not_found}
unknown:
  bureau.active_lenders: not_requested
refuse:
  - {column: test, is_one_of: ["1"], because: "a test of the form"}
"""
)
FULL_ROW = {
    **ROW,
    "income": "8000.50",
    "years_employed": "2.5",
    "born": "29/02/1992",
    "rate": "0.1475",
    "at": "2026-11-24T09:00:00",
    "hit": "Yes",
    "score": "640",
    "pay": "W",
    "debt": "1000.01",
    "value": "9000",
    "test": "0",
}


def _payload(text: str, row: dict[str, str | None], **keys: bytes) -> dict[str, Any]:
    body = Mapper(parse_mapping(text), keys).application(row).body
    payload: dict[str, Any] = json.loads(body)
    return payload


def _problems(text: str, row: dict[str, str | None]) -> tuple[RowProblem, ...]:
    with pytest.raises(RowRefusedError) as caught:
        Mapper(parse_mapping(text)).application(row)
    return caught.value.problems


def test_a_full_row_becomes_the_request_that_it_says() -> None:
    payload = _payload(FULL, FULL_ROW)
    assert payload == {
        "application_id": "a-1",
        "channel_code": "search-ads",
        "product": "unsecured_consumer",
        "currency": "CNY",
        "amount": 500_000,
        "term_months": 12,
        "submitted_at": "2026-11-24T01:00:00Z",
        "all_in_apr_pct": "14.75",
        "applicant": {"monthly_income": 800_050, "employment_months": 30, "birth_date": "1992-02-29"},
        "bureau": {"hit": True, "score": 640},
        "attributes": {"pay": "weekly", "ltv": "66.67"},
        "unknown": {"bureau.active_lenders": "not_requested"},
    }
    PAYLOAD.validate_json(json.dumps(payload))


def test_what_is_blank_is_unknown_with_the_cause_that_the_mapping_states() -> None:
    payload = _payload(FULL, {**FULL_ROW, "income": "0", "score": "", "pay": None, "debt": ""})
    assert "monthly_income" not in payload["applicant"]
    assert payload["unknown"] == {
        "applicant.monthly_income": "not_found",
        "bureau.score": "source_error",
        "bureau.active_lenders": "not_requested",
        "attributes.pay": "not_found",
        "attributes.ltv": "not_found",
    }


def test_a_column_that_is_not_there_was_not_requested() -> None:
    row = {name: text for name, text in FULL_ROW.items() if name != "score"}
    assert "bureau.score" not in _payload(FULL, row)["unknown"]


def test_a_ratio_over_nothing_is_unknown() -> None:
    assert "ltv" not in _payload(FULL, {**FULL_ROW, "value": "0.00"})["attributes"]


def test_money_follows_the_row_s_own_currency() -> None:
    text = MINIMAL.replace("{constant: CNY}", "{column: currency}")
    assert _payload(text, {**ROW, "currency": "JPY"})["amount"] == 5_000
    assert _payload(text, {**ROW, "currency": "KWD"})["amount"] == 5_000_000
    assert _problems(text, {**ROW, "currency": ""})[0].detail == "cannot be read without a currency"


def test_the_first_column_of_a_template_that_is_not_blank_counts() -> None:
    text = MINIMAL.replace("{column: id}", '{template: "x-{id|row}"}')
    assert _payload(text, {**ROW, "row": "7"})["application_id"] == "x-a-1"
    assert _payload(text, {**ROW, "id": " ", "row": "7"})["application_id"] == "x-7"
    assert _problems(text, {**ROW, "id": " ", "row": ""}) == (
        RowProblem(pointer="/application_id", column="id", detail="is required"),
    )


def test_a_keyed_hash_is_stable_for_the_person_and_differs_by_key() -> None:
    text = MINIMAL + "  applicant.applicant_ref: {hash: [id, source], key_from: PERSON_KEY}\n"
    first = _payload(text, ROW, PERSON_KEY=b"k" * 32)["applicant"]["applicant_ref"]
    assert first == _payload(text, {**ROW, "wanted": "1"}, PERSON_KEY=b"k" * 32)["applicant"]["applicant_ref"]
    assert first != _payload(text, ROW, PERSON_KEY=b"l" * 32)["applicant"]["applicant_ref"]
    assert (
        first
        != _payload(text, {**ROW, "id": "a-1s", "source": "earch-ads"}, PERSON_KEY=b"k" * 32)["applicant"][
            "applicant_ref"
        ]
    )
    assert "a-1" not in first


def test_a_hash_without_its_secret_is_refused_before_anything_is_read() -> None:
    text = MINIMAL + "  applicant.applicant_ref: {hash: [id], key_from: PERSON_KEY}\n"
    with pytest.raises(MappingError, match="PERSON_KEY must hold"):
        Mapper(parse_mapping(text), {"PERSON_KEY": b"short"})


def test_every_fault_of_a_row_is_told_by_pointer_and_column_and_none_by_value() -> None:
    problems = _problems(FULL, {**FULL_ROW, "wanted": "a lot", "hit": "maybe", "pay": "Z", "born": "31/02/1992"})
    assert {(problem.pointer, problem.column) for problem in problems} == {
        ("/amount", "wanted"),
        ("/bureau/hit", "hit"),
        ("/attributes/pay", "pay"),
        ("/attributes/ltv", "wanted, debt, value"),
        ("/applicant/birth_date", "born"),
    }
    told = " ".join(problem.detail for problem in problems)
    assert not any(value in told for value in ("a lot", "maybe", "31/02"))


@pytest.mark.parametrize(
    ("column", "value", "pointer"),
    [
        ("wanted", "0", "/amount"),
        ("wanted", "-5", "/amount"),
        ("id", "a b", "/application_id"),
        ("source", "", "/channel_code"),
    ],
)
def test_a_value_that_no_request_may_carry_is_told_before_it_is_sent(column: str, value: str, pointer: str) -> None:
    (problem,) = _problems(MINIMAL, {**ROW, column: value})
    assert (problem.pointer, problem.column) == (pointer, column)


def test_a_row_that_the_mapping_refuses_is_told_in_the_mapping_s_words() -> None:
    assert _problems(FULL, {**FULL_ROW, "test": "1"}) == (RowProblem(column="test", detail="a test of the form"),)


@pytest.mark.parametrize(
    ("condition", "cell", "refused"),
    [
        ("is_null: true", "", True),
        ("is_null: true", "x", False),
        ("is_none_of: [x, y]", "z", True),
        ("is_none_of: [x, y]", "x", False),
        ("is_none_of: [x, y]", "", False),
        ("is_one_of: [x]", "y", False),
    ],
)
def test_conditions_of_refusal(condition: str, cell: str, refused: bool) -> None:
    mapper = Mapper(parse_mapping(MINIMAL + f"refuse:\n  - {{column: c, {condition}, because: no}}\n"))
    if refused:
        with pytest.raises(RowRefusedError):
            mapper.application({**ROW, "c": cell})
    else:
        assert mapper.application({**ROW, "c": cell}).application_id == "a-1"


def test_text_that_is_no_unicode_refuses_its_row_alone() -> None:
    (problem,) = _problems(MINIMAL, {**ROW, "id": "\udcff"})
    assert problem.detail == "holds text that is not valid Unicode"


_CELLS = st.one_of(
    st.none(),
    st.text(max_size=30),
    st.decimals(allow_nan=True, allow_infinity=True).map(str),
    st.floats().map(str),
    st.datetimes().map(str),
    st.sampled_from(["", "0", "-0", "1", "yes", "W", "1e18", "9" * 40, "\ud800", "\x00"]),
)


@settings(deadline=None)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(FULL_ROW, _CELLS)))
def test_any_row_is_a_valid_request_or_refused_with_a_reason(changes: dict[str, str | None]) -> None:
    try:
        application = Mapper(parse_mapping(FULL)).application({**FULL_ROW, **changes})
    except RowRefusedError as refused:
        problems = refused.problems
    else:
        payload = PAYLOAD.validate_json(application.body)
        stated = [path for path in payload["unknown"] if _at(payload, path) is not None]
        problems = (RowProblem(detail="valid"),) if not stated else ()
    assert problems
    assert all(problem.detail for problem in problems)


def _at(payload: dict[str, Any], path: str) -> object:
    section, _, name = path.rpartition(".")
    part = payload.get(section) if section else payload
    return part.get(name) if isinstance(part, dict) else None
