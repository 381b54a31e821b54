"""The tiering policy and its JSON form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.tiering.policy import DEFAULT, DemotionPolicy, PolicyValueError, Statistic, TieringPolicy, sections
from app.tiering.policy_document import TieringPolicyError, read_policy, write_policy


def faults(document: object) -> dict[str, str]:
    with pytest.raises(TieringPolicyError) as refused:
        read_policy(document)
    return {fault.pointer: fault.detail for fault in refused.value.faults}


def test_the_document_of_a_policy_gives_it_again() -> None:
    assert read_policy(json.loads(json.dumps(write_policy(DEFAULT)))) == DEFAULT


def test_what_a_document_leaves_out_has_its_default() -> None:
    policy = read_policy({"name": "careful", "demotion": {"probability": 0.95}, "statistic": "windows"})
    assert policy.demotion == DemotionPolicy(probability=0.95)
    assert policy.statistic is Statistic.WINDOWS
    assert DEFAULT.statistic is Statistic.CHANGE_POINT
    assert policy.promotion == DEFAULT.promotion


def test_every_fault_is_told_with_its_place() -> None:
    found = faults(
        {
            "statistic": "best",
            "demotion": {"probability": 1.5, "minimum_event": 3},
            "event": {"horizon_months": 12.5},
            "forgetting": [],
            "calibration": {"kappa_minimum": "0.8"},
            "suspension": {"minimum_frauds": True},
            "alarm": {"limits": [[1, 2, 3], [5, "x"]]},
            "boundaries": [{"demote_above": 1.1}],
            "tiers": ["prime", ""],
        }
    )
    assert found == {
        "/name": "is required",
        "/statistic": "must be one of windows, change_point",
        "/demotion/minimum_event": "is no part of a tiering policy",
        "/demotion/probability": "must be from 0.5 to 1",
        "/event/horizon_months": "must be a whole number",
        "/forgetting": "must be an object",
        "/calibration/kappa_minimum": "must be a number",
        "/suspension/minimum_frauds": "must be a whole number",
        "/alarm/limits/0": "must be two numbers",
        "/alarm/limits/1": "must be two numbers",
        "/boundaries/0/promote_below": "is required",
        "/tiers/1": "must be a text of 1 to 100",
    }


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({"tiers": ["a", "a"]}, "/tiers"),
        ({"tiers": ["a", "b"]}, "/boundaries"),
        ({"admitted_tier": "gold"}, "/admitted_tier"),
        ({"boundaries": [{"demote_above": 1, "promote_below": 2}] * 2}, "/boundaries/0"),
        ({"prior": {"nu_minimum": 13}}, "/prior/nu_minimum"),
        ({"demotion": {"probability": 0.55}}, "/demotion/probability_on_watch"),
        ({"change_point": {"demotion_probability": 0.6}}, "/change_point/demotion_probability_on_watch"),
        ({"change_point": {"recent_probability": 0.7}}, "/change_point/recent_probability_on_watch"),
        ({"alarm": {"limits": [[1, 1]]}}, "/alarm/limits"),
        ({"alarm": {"limits": [[1, 1], [1, 2]]}}, "/alarm/limits/1"),
        ({"loss_appetite": 0}, "/loss_appetite"),
    ],
)
def test_values_that_contradict_each_other_are_refused(document: dict[str, Any], pointer: str) -> None:
    assert list(faults({"name": "n"} | document)) == [pointer]


@pytest.mark.parametrize("document", [None, [], "policy", 3])
def test_what_is_no_object_is_refused(document: object) -> None:
    assert faults(document) == {"": "must be an object"}


def test_a_value_out_of_range_is_refused_in_code_as_well() -> None:
    with pytest.raises(PolicyValueError, match="probability"):
        DemotionPolicy(probability=0.4)


def test_every_part_of_the_policy_is_written() -> None:
    assert set(sections(DEFAULT)) < set(write_policy(DEFAULT))
    assert TieringPolicy().worst == "risk"
