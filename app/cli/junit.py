"""The results of policies' cases as JUnit XML, which every pipeline can show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from app.domain.cases import CaseResult


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRun:
    """A policy by the name of its file, with what came of its cases and how long all of them took."""

    name: str
    results: tuple[CaseResult, ...]
    seconds: float


def junit_xml(policies: Sequence[PolicyRun]) -> bytes:
    """One suite a policy, one test a case and tier; a policy without cases is a failed test of its own."""
    root = Element("testsuites")
    for policy in policies:
        failures = sum(not result.passed for result in policy.results) or int(not policy.results)
        suite = SubElement(
            root,
            "testsuite",
            name=policy.name,
            tests=str(max(len(policy.results), 1)),
            failures=str(failures),
            errors="0",
            time=f"{policy.seconds:.3f}",
        )
        if not policy.results:
            _failure(SubElement(suite, "testcase", classname=policy.name, name="cases"), "the policy has no cases", "")
        for result in policy.results:
            name = f"{result.name} [{result.tier}]" if result.tier else result.name
            case = SubElement(suite, "testcase", classname=policy.name, name=name)
            if not result.passed:
                _failure(case, result.problems[0].detail, "\n".join(str(problem) for problem in result.problems))
    return bytes(tostring(root, encoding="utf-8", xml_declaration=True))


def _failure(case: Element, message: str, text: str) -> None:
    SubElement(case, "failure", message=message).text = text
