"""`channel-gate decide`: one application, one policy, no server and no database."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from app.api.examples import APPLICATION
from app.cli import build_app
from app.policies.defaults import default_policy

AT = ("--at", "2026-11-24T10:00:00Z")


def run(*arguments: str | Path, stdin: str | None = None) -> Result:
    """What the command prints and ends with; it finds no setting in its environment."""
    return CliRunner().invoke(build_app(), ["decide", *map(str, arguments)], input=stdin, env={"COLUMNS": "200"})


@pytest.fixture
def application(tmp_path: Path) -> Path:
    file = tmp_path / "application.json"
    file.write_text(json.dumps(APPLICATION), encoding="utf-8")
    return file


def written(folder: Path, name: str, document: dict[str, Any]) -> Path:
    file = folder / name
    text = json.dumps(document) if file.suffix == ".json" else yaml.safe_dump(document)
    file.write_text(text, encoding="utf-8")
    return file


def test_outcome_ceiling_and_every_tier_are_printed(application: Path) -> None:
    result = run(application, *AT, "--tier", "risk")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("escalate -> counter_offer")
    assert "counter-offer: CNY 30,000.00, valid until 2026-12-24" in result.stdout
    assert "IN03" in result.stdout
    assert "CNY 50,000.00" in result.stdout
    assert "ceiling: CNY 30,000.00 (limit of the channel's tier)" in result.stdout
    assert "under each tier: prime accept, general accept, risk escalate (the tier decides)" in result.stdout


def test_json_holds_the_answer_the_record_and_the_outcome_under_each_tier(application: Path) -> None:
    printed = json.loads(run(application, *AT, "--tier", "prime", "--json").stdout)
    assert printed["response"]["outcome"] == printed["record"]["outcome"] == "accept"
    assert printed["response"]["tier"] == "prime"
    assert printed["outcomes_by_tier"] == {"prime": "accept", "general": "accept", "risk": "escalate"}
    assert printed["tier_decisive"] is True


def test_the_same_moment_gives_the_same_bytes(application: Path) -> None:
    assert run(application, *AT, "--json").stdout == run(application, *AT, "--json").stdout


def test_without_a_tier_the_policys_default_holds(application: Path) -> None:
    assert json.loads(run(application, *AT, "--json").stdout)["response"]["tier"] == "general"


def test_an_application_may_come_from_standard_input() -> None:
    assert run("-", *AT, stdin=json.dumps(APPLICATION)).stdout.startswith("accept")


@pytest.mark.parametrize(("state", "outcome"), [("active", "accept"), ("suspended", "reject"), ("exited", "reject")])
def test_the_state_of_the_channel_counts(application: Path, state: str, outcome: str) -> None:
    assert run(application, *AT, "--channel-state", state).stdout.startswith(outcome)


def test_a_channel_on_probation_has_the_ceiling_of_the_strictest_tier(application: Path) -> None:
    printed = json.loads(run(application, *AT, "--channel-state", "probation", "--json").stdout)
    assert printed["record"]["standing"]["ceiling_tier"] == "risk"
    assert printed["response"]["next_action"] == "counter_offer"


@pytest.mark.parametrize("name", ["policy.json", "policy.yaml", "policy.yml"])
def test_a_policy_file_decides_in_place_of_the_default(application: Path, tmp_path: Path, name: str) -> None:
    document = default_policy()
    rule = next(rule for rule in document["rules"] if rule["code"] == "BU03")
    rule["thresholds"]["general"] = APPLICATION["bureau"]["score"] + 1
    policy = written(tmp_path, name, document)
    assert run(application, *AT, "--policy", policy).stdout.startswith("reject")
    assert run(application, *AT).stdout.startswith("accept")


def test_an_unknown_field_is_shown_with_its_cause(tmp_path: Path) -> None:
    changed = deepcopy(APPLICATION)
    del changed["bureau"]["score"]
    changed["unknown"]["bureau.score"] = "source_error"
    result = run(written(tmp_path, "application.json", changed), *AT)
    assert result.stdout.startswith("escalate -> review")
    assert "unknown (source_error)" in result.stdout


def _without(*path: str) -> dict[str, Any]:
    changed = deepcopy(APPLICATION)
    section = changed
    for key in path[:-1]:
        section = section[key]
    del section[path[-1]]
    return changed


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (_without("amount"), "/amount is required"),
        (APPLICATION | {"amount": "5000000"}, "/amount must be a whole number"),
        (APPLICATION | {"amount": 1}, "/amount must be at least 100000"),
        (APPLICATION | {"colour": "red"}, "/colour is not a known field"),
        (APPLICATION | {"currency": "USD"}, "/currency must be CNY"),
        (APPLICATION | {"attributes": {"pay_frequency": "weekly"}}, "the policy declares no such attribute"),
        (_without("consent_at"), "consent"),
    ],
)
def test_what_is_wrong_with_an_application_is_said_on_one_line(
    tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    assert_refused(run(written(tmp_path, "application.json", changed), *AT), told)


def test_what_is_wrong_with_a_policy_is_said_by_row_and_column(application: Path, tmp_path: Path) -> None:
    document = default_policy()
    document["rules"][0]["field"] = "bureau.shoe_size"
    result = run(application, "--policy", written(tmp_path, "policy.json", document))
    assert_refused(result, f"{document['rules'][0]['code']} field there is no field bureau.shoe_size")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("policy.json", "{", "is not valid JSON"),
        ("policy.yaml", "a: [", "is not valid YAML"),
        ("policy.json", "[]", "must be an object"),
    ],
)
def test_a_policy_file_that_cannot_be_read_is_refused(
    application: Path, tmp_path: Path, name: str, text: str, told: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert_refused(run(application, "--policy", tmp_path / name), told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--tier", "gold"), "the policy has no tier gold"),
        (("--at", "yesterday"), "--at must be an instant"),
        (("--at", "2026-11-24T10:00:00"), "--at must be an instant"),
        (("--at", "0001-01-01T00:00:00+14:00"), "--at must be an instant"),
        (("--channel-state", "proposed"), "named list"),
        (("--policy", "/no/such/policy.json"), "No such file"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(application: Path, arguments: tuple[str, ...], told: str) -> None:
    assert_refused(run(application, *arguments), told)


def test_files_that_are_not_there_or_are_no_json_are_refused(tmp_path: Path) -> None:
    assert_refused(run(tmp_path / "nothing.json"), "No such file")
    assert_refused(run("-", stdin="not json"), "not valid JSON")
    assert_refused(run("-", stdin=""), "not valid JSON")


def test_a_refusal_never_repeats_a_value(tmp_path: Path) -> None:
    changed = deepcopy(APPLICATION) | {"purpose": 8_231_774}
    changed["applicant"]["employment_type"] = "zirkusdirektor"
    result = run(written(tmp_path, "application.json", changed))
    assert result.exit_code == 2
    assert "zirkusdirektor" not in result.output
    assert "8231774" not in result.output


def assert_refused(result: Result, told: str) -> None:
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert told in result.stderr
