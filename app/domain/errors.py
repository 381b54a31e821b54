"""What can be wrong with a policy or an application, said in terms of the domain."""

from __future__ import annotations

from dataclasses import dataclass


class DomainError(Exception):
    """The base of every error that the domain raises on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyProblem:
    """One fault of a policy document: the row (a rule's code or a section), the column in it, and what is wrong."""

    row: str
    column: str
    detail: str

    def __str__(self) -> str:
        return f"{self.row}, {self.column}: {self.detail}"


class PolicyError(DomainError):
    """A policy document that does not compile. Carries every fault, not only the first."""

    def __init__(self, problems: tuple[PolicyProblem, ...]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationProblem:
    """One fault of an application: a JSON pointer into its body and what is wrong. Never carries the value."""

    pointer: str
    detail: str


class ApplicationError(DomainError):
    """An application that the policy cannot decide because it contradicts what the policy declares."""

    def __init__(self, problems: tuple[ApplicationProblem, ...]) -> None:
        super().__init__("; ".join(f"{problem.pointer}: {problem.detail}" for problem in problems))
        self.problems = problems


class UnknownChannelError(DomainError):
    """The channel code is not on the named list: no credit decision may be made for it."""


class ConsentMissingError(DomainError):
    """The policy requires the applicant's consent and the application does not carry it."""
