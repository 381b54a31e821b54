"""`channel-gate policy lint`, `test` and `export` as a pipeline sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import orjson
from typer.testing import CliRunner

from app.cli import build_app
from app.db.engine import make_engine
from app.domain.cases import check_cases, run_cases
from app.domain.compiler import compile_policy
from app.journal.usage import field_usage
from app.policies.defaults import default_policy
from app.policies.document_text import parse_json, parse_yaml
from tests.support.cluster import Database, in_thread
from tests.support.service import running_service


def run(*arguments: str | Path, environment: dict[str, str] | None = None) -> Any:
    return CliRunner().invoke(build_app(), ["policy", *map(str, arguments)], env=environment)


def write(file: Path, document: dict[str, Any]) -> Path:
    file.write_bytes(orjson.dumps(document))
    return file


def without_cases(**sections: Any) -> dict[str, Any]:
    return default_policy() | {"cases": []} | sections


def test_lint_tells_each_finding_in_a_line_and_ends_with_1_for_errors(tmp_path: Path) -> None:
    document = default_policy()
    assert run("lint", write(tmp_path / "p.json", document)).exit_code == 0
    again = next(rule for rule in document["rules"] if rule["code"] == "BU03")
    document["rules"].append(again | {"code": "BU99"})
    told = run("lint", write(tmp_path / "p.json", document))
    assert told.exit_code == 1
    assert told.output.splitlines() == [
        f"{tmp_path / 'p.json'}: error L06-duplicate BU99: says the same as BU03",
        f"{tmp_path / 'p.json'}: 1 errors, 0 warnings",
    ]
    document["rules"][-1]["thresholds"] = {"prime": 500, "general": 500, "risk": 500}
    assert run("lint", write(tmp_path / "p.json", document)).exit_code == 0
    assert run("lint", "--strict", tmp_path / "p.json").exit_code == 1


def test_cases_are_run_in_every_tier_and_written_for_the_pipeline(tmp_path: Path) -> None:
    document = default_policy()
    document["cases"][1]["expected"]["risk"] = {"outcome": "accept", "counter_offer": 1}
    good, bad = write(tmp_path / "good.json", default_policy()), write(tmp_path / "bad.json", document)
    report = tmp_path / "report.xml"
    assert run("test", good).exit_code == 0
    told = run("test", "--quiet", "--junit", report, good, bad)
    assert told.exit_code == 1
    assert told.output.splitlines()[1:] == [
        "FAILED a score at the cutoff of general is accepted there and rejected by risk [risk]",
        "       cases[1], expected.risk.outcome: expected accept, decided reject",
        "       cases[1], expected.risk.counter_offer: expected 1, decided none",
        f"{bad}: 27 passed, 1 failed",
    ]
    passed, failed = fromstring(report.read_bytes())
    assert (passed.attrib["failures"], failed.attrib["failures"], failed.attrib["tests"]) == ("0", "1", "28")
    (failure,) = failed.iter("failure")
    assert failure.attrib["message"] == "expected accept, decided reject"


def test_a_policy_without_cases_does_not_pass(tmp_path: Path) -> None:
    told = run("test", write(tmp_path / "p.json", without_cases()), "--junit", tmp_path / "r.xml")
    assert told.exit_code == 1
    assert "it has no cases" in told.output
    assert fromstring((tmp_path / "r.xml").read_bytes())[0].attrib["failures"] == "1"


OTHER_COLUMN = "is not one of outcome, next_action, codes, ceiling, counter_offer"


def test_a_case_that_cannot_be_run_names_what_is_wrong() -> None:
    good = default_policy()["cases"][0] | {"expected": {"prime": {"outcome": "accept"}}}
    for change, detail in (
        ({"channel": {"state": "proposed"}}, "the channel is not on the named list"),
        ({"channel": {"colour": "red"}}, "does not have the form of a case"),
        ({"facts": {"person.mood": 1}}, "there is no fact person.mood"),
        ({"expected": {"gold": {"outcome": "accept"}}}, "the policy has no tier gold"),
        ({"expected": {}}, "must name what is expected, by tier"),
        ({"expect": {}}, "has no column expect"),
        ({"expected": {"prime": {"colour": "red"}}}, OTHER_COLUMN),
        ({"at": "2026-01-15"}, "does not have the form of a case"),
    ):  # fmt: skip
        policy = compile_policy(without_cases(cases=[good | change]))
        assert [problem.detail for problem in check_cases(policy)] == [detail]
        assert not any(result.passed for result in run_cases(policy))


def test_an_export_is_canonical_and_can_be_read_again(seeded_database: Database, tmp_path: Path) -> None:
    environment = seeded_database.environment()
    as_json = run("export", "active", "--format", "json", environment=environment)
    as_yaml = run("export", environment=environment)
    assert (
        parse_json(as_json.stdout) == parse_yaml(as_yaml.stdout) == compile_policy(default_policy()).document.document()
    )
    file = tmp_path / "p.yaml"
    assert run("export", "1", "-o", file, environment=environment).exit_code == 0
    assert run("export", file).stdout == file.read_text(encoding="utf-8") == as_yaml.stdout
    assert run("diff", "active", file, "--exit-code", environment=environment).exit_code == 0


async def test_lint_against_the_log_tells_what_applications_never_carried(
    seeded_database: Database, tmp_path: Path
) -> None:
    async with running_service(seeded_database) as service:
        for number in range(100):
            await service.decide(f"U-{number}", device={"ids_on_device_24h": None} if number else None)
    engine = make_engine(seeded_database.serving, pool_size=1)
    async with engine.connect() as connection:
        usage = await field_usage(connection)
    await engine.dispose()
    assert usage.applications == 100
    assert usage.carried["bureau.score"] == usage.carried["amount"] == 100
    assert "device.ids_on_device_24h" not in usage.carried
    assert "unknown" not in usage.carried
    file = write(tmp_path / "p.json", default_policy())
    told = in_thread(lambda: run("lint", "--against-log", file, environment=seeded_database.environment()))
    assert told.exit_code == 0
    rows = [line.split(" ")[3].rstrip(",") for line in told.output.splitlines()[:-1]]
    assert {"FR01", "BU07"} <= set(rows)
    assert "BU03" not in rows
    assert json.dumps(usage.carried)
