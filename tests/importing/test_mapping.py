"""The mapping file: what it takes, and how it says what it does not take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.cli.importing.mapping import PAYLOAD_PATHS, MappingError, parse_mapping

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

MINIMAL = """\
name: minimal
fields:
  application_id: {column: id}
  channel_code: {column: source}
  product: {constant: unsecured_consumer}
  currency: {constant: CNY}
  amount: {column: wanted, as: money}
  term_months: {constant: 12}
"""


def _faults_if_any(text: str) -> tuple[str, ...] | None:
    try:
        parse_mapping(text)
    except MappingError as error:
        return error.faults
    return None


def _faults(text: str) -> list[str]:
    with pytest.raises(MappingError) as caught:
        parse_mapping(text)
    return list(caught.value.faults)


def test_a_minimal_mapping_names_the_columns_that_the_file_must_have() -> None:
    assert parse_mapping(MINIMAL).columns == ("id", "source", "wanted")


def test_json_is_taken_as_well() -> None:
    assert parse_mapping(json.dumps(yaml.safe_load(MINIMAL))) == parse_mapping(MINIMAL)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.mapping.yaml")), ids=lambda path: path.name)
def test_every_example_is_a_mapping(path: Path) -> None:
    assert parse_mapping(path.read_text(encoding="utf-8")).name == path.name.partition(".")[0]


def test_paths_of_the_payload_include_nested_ones_and_no_containers() -> None:
    assert {"amount", "applicant.monthly_income", "bureau.pulled_at", "device.ids_on_device_24h"} <= PAYLOAD_PATHS
    assert not {"applicant", "attributes", "unknown"} & PAYLOAD_PATHS


@pytest.mark.parametrize(
    ("addition", "fault"),
    [
        ("colour: red\n", "line 9: colour: is not a known key"),
        (
            "attributes:\n  size: {column: s, as: number, unit: major}\n",
            "line 10: attributes.size.unit: is not a known key",
        ),
        ("attributes:\n  size: {column: s, as: weight}\n", "line 10: attributes.size: must be a constant"),
        ("attributes:\n  size: {constant: 1, column: s}\n", "line 10: attributes.size.column: is not a known key"),
        ("attributes:\n  Size: {constant: 1}\n", "line 9: attributes: a name is in lower case"),
        ("attributes:\n  at: {column: t, as: instant, timezone: Mars/Base}\n", "is no time zone"),
        ("attributes:\n  f: {column: f, as: boolean, true_values: ['1'], false_values: ['1']}\n", "both yes and no"),
        ("attributes:\n  t: {template: no columns}\n", "line 10: attributes.t.template: must hold columns"),
        ("attributes:\n  t: {template: '{a|}'}\n", "must hold columns"),
        ("attributes:\n  h: {hash: [a], key_from: lower}\n", "line 10: attributes.h.key_from"),
        ("unknown:\n  amount: not_found\n", "unknown and mapped at once: amount"),
        ("unknown:\n  submitted_at: not_found\n", "no cause can be stated for submitted_at"),
        ("unknown:\n  bureau.score: forgotten\n", "line 10: unknown.bureau.score"),
        ("refuse:\n  - {column: a, because: b}\n", "line 10: refuse.0: must have exactly one of"),
        ("file: {encoding: klingon}\n", "line 9: file.encoding"),
    ],
)
def test_a_fault_names_its_line_and_key(addition: str, fault: str) -> None:
    faults = _faults(MINIMAL + addition)
    assert any(fault in each for each in faults), faults
    assert all(each.startswith("line ") for each in faults)


def test_a_field_that_no_request_has_is_refused_by_name() -> None:
    assert _faults(MINIMAL + "  colour: {constant: red}\n") == ["line 2: fields: a request has no colour"]


def test_a_required_field_that_is_not_mapped_is_named() -> None:
    text = MINIMAL.replace("  currency: {constant: CNY}\n", "")
    assert _faults(text) == ["line 2: fields: must name currency"]


def test_faults_of_one_section_are_told_together() -> None:
    text = MINIMAL.replace("  currency: {constant: CNY}\n", "  colour: {constant: red}\n")
    assert _faults(text) == ["line 2: fields: a request has no colour; must name currency"]
    both = _faults(MINIMAL + "unknown:\n  amount: not_found\n  submitted_at: not_found\n")
    expected = "unknown and mapped at once: amount; no cause can be stated for submitted_at"
    assert [fault.rpartition("mapping: ")[2] for fault in both] == [expected]


def test_every_fault_is_told_not_only_the_first() -> None:
    assert len(_faults(MINIMAL + "colour: red\nshape: round\n")) == 2


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "line 1: is empty"),
        ("name: [", "line 1: "),
        ("name: a\nname: b\n", "line 2: name: is there twice"),
        ("a: &x [1]\nb: *x\n", "line 1: anchors and aliases are not taken"),
        ("a: !!python/object:os.system x\n", "line 1: tags are not taken"),
        ("? [a]\n: b\n", "line 1: a key must be text"),
        ("a: \x00", "line 1: "),
        ("[" * 30 + "]" * 30, "line 1: is nested too deeply"),
        ("- a\n- b\n", "line 1: mapping: "),
    ],
)
def test_a_text_that_is_no_document_is_told_with_its_line(text: str, fault: str) -> None:
    assert any(fault in each for each in _faults(text))


def test_a_country_code_is_text_and_not_a_boolean() -> None:
    mapping = parse_mapping(MINIMAL + "attributes:\n  home: {column: c, map: {NO: no, 1: 2}}\n")
    source = mapping.attributes["home"]
    assert source.map == {"NO": "no", "1": 2}  # type: ignore[union-attr]


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["text", "money", "{a}", "exact"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["column", "constant", "as", "map", "template", "hash", "ratio", "over", "fields", "name"])
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@settings(deadline=None)
@given(_JSON)
def test_any_document_is_a_mapping_or_a_mapping_error(document: object) -> None:
    assert _faults_if_any(json.dumps(document)) != ()


@settings(deadline=None)
@given(st.sampled_from(["fields", "attributes", "unknown", "refuse", "file"]), _JSON)
def test_any_section_in_a_sound_mapping_is_taken_or_told(section: str, value: object) -> None:
    document = yaml.safe_load(MINIMAL)
    document[section] = {**document["fields"], **value} if section == "fields" and isinstance(value, dict) else value
    assert all(fault.startswith("line ") for fault in _faults_if_any(json.dumps(document)) or ())


@settings(deadline=None)
@given(st.text(max_size=200))
@example("\ud800")
@example("{" * 500)
@example("a: {b: 1, b: 2")
def test_any_text_is_a_mapping_or_a_mapping_error(text: str) -> None:
    assert _faults_if_any(text) != ()
