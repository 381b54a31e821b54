"""Whose signature a request carries: that of the person who calls, whatever the body says."""

from __future__ import annotations

from app.api.problems import Problem, ProblemType
from app.governance.signature import Signature
from app.identities.principal import Principal


def signature_of(caller: Principal, proof: str) -> Signature:
    """The caller's signature.

    Raises:
        Problem: forbidden, for a credential that belongs to no person.
    """
    if caller.person_id is None:
        raise Problem(ProblemType.FORBIDDEN, "This credential belongs to no person, who alone can sign.")
    return Signature(person_id=caller.person_id, proof=bytes.fromhex(proof))
