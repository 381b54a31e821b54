"""The guide for authors says what the code does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from app.cli import build_app
from app.domain.application import REPORTABLE_CAUSES
from app.domain.compiler import compile_policy
from app.domain.errors import PolicyError
from app.domain.fields import DERIVED_FIELDS, SETTLEMENT_FIELDS, STANDARD_FIELDS
from app.domain.policy import Op
from app.domain.policy_reader import parse_policy
from app.policies.checking import checked_policy
from app.policies.defaults import default_policy
from app.policies.document_text import parse_yaml

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "policy-authoring.md").read_text(encoding="utf-8")
HEX = "0" * 64
YAML_BLOCKS = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
RULES = [block for block in YAML_BLOCKS if block.startswith("- code:")]


@pytest.mark.parametrize("block", RULES, ids=lambda block: block.split("\n", 1)[0][8:])
def test_every_rule_of_the_guide_compiles_within_the_default_policy(block: str) -> None:
    rules = parse_yaml(block)
    assert isinstance(rules, list)
    document = default_policy()
    codes = {rule["code"] for rule in rules}
    document["rules"] = [rule for rule in document["rules"] if rule["code"] not in codes] + rules
    compile_policy(document)


def test_the_attributes_of_the_guide_compile() -> None:
    (block,) = [block for block in YAML_BLOCKS if block.startswith("attributes:")]
    attributes = parse_yaml(block)
    assert isinstance(attributes, dict)
    compiled = compile_policy(default_policy() | attributes)
    assert set(compiled.attributes) == {"pay_frequency", "collateral_value", "loan_to_value_pct"}


def test_the_guide_has_several_examples() -> None:
    assert len(RULES) == 4


def test_the_guide_names_every_operator_cause_field_and_section() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| [^|]*\| (?:one value|a list|`true`)", GUIDE, re.MULTILINE)) == set(Op)
    fields = {field.name for field in (*STANDARD_FIELDS, *DERIVED_FIELDS, *SETTLEMENT_FIELDS)}
    section = GUIDE[GUIDE.index("## Fields") : GUIDE.index("### Your own fields")]
    assert fields <= set(re.findall(r"`([a-z_0-9.]+)`", section))
    words = set(re.findall(r"`([\w.]+)`", GUIDE))
    assert {cause.value for cause in REPORTABLE_CAUSES} <= words
    assert set(parse_policy(default_policy()).document()) - {"rules", "income", "ceiling"} <= words
    assert set(parse_policy(default_policy()).document()["rules"][0]) <= words  # type: ignore[arg-type,index]


def test_every_command_and_path_of_the_guide_exists() -> None:
    commands = set(re.findall(r"channel-gate (\w+(?: (?:show|validate|diff|publish))?)", GUIDE))
    assert {"policy show", "policy validate", "policy diff", "policy publish", "decide"} <= commands
    for command in commands:
        assert CliRunner().invoke(build_app(), [*command.split(), "--help"]).exit_code == 0
    for option in ("--comment", "--wait"):
        assert option in CliRunner().invoke(build_app(), ["policy", "publish", "--help"], terminal_width=200).output


def test_the_faults_that_the_guide_shows_are_told_like_that() -> None:
    document: dict[str, Any] = default_policy()
    rules = {rule["code"]: rule for rule in document["rules"]}
    del rules["BU03"]["thresholds"]["risk"]
    rules["EM01"]["field"] = "applicant.employment"
    rules["BU08"]["op"] = "at_least"
    with pytest.raises(PolicyError) as refused:
        checked_policy(document)
    told = {str(problem) for problem in refused.value.problems}
    shown = GUIDE[GUIDE.index("## When it is refused") :].split("```")[1].strip().splitlines()
    assert {line.removeprefix("policy.yaml: ") for line in shown} <= told


def _commands(document: str) -> list[str]:
    """Each line of a shell block that calls `channel-gate`, without its comment."""
    text = (DOCS / document).read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    return [line.split("  #")[0].strip() for line in blocks.splitlines() if line.startswith("channel-gate ")]


@pytest.mark.parametrize("document", ["policy-authoring.md", "governance.md", "what-if.md", "shadow.md"])
def test_every_command_of_a_guide_can_be_called_as_it_is_written(document: str) -> None:
    """Not run: read, by the command line itself, down to the last option and argument."""
    for line in _commands(document):
        words = shlex.split(re.split(r"\s(?:>|\|)\s", line)[0])[1:]
        command: Any = typer.main.get_command(build_app())
        while hasattr(command, "get_command"):
            name = words.pop(0)
            found = command.get_command(None, name)
            assert found is not None, f"{document}: there is no {name} in {line}"
            command = found
        words = [HEX if word == "DIGEST" else word for word in words]
        given, rest, _ = command.make_parser(command.context_class(command)).parse_args(words)
        assert rest == [], f"{document}: {line}"
        required = {each.name for each in command.params if each.param_type_name == "argument" and each.required}
        assert required <= {name for name, value in given.items() if value is not None}, f"{document}: {line}"


def test_the_guides_show_commands_at_all() -> None:
    assert len(_commands("policy-authoring.md")) > 12
    assert len(_commands("governance.md")) > 6
