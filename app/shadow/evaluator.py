"""What runs in the challenger's process: reads frames from the worker, evaluates, answers; pure but for that.

A frame is its length as four bytes, a letter and JSON. `P` brings a policy document and is answered with an empty list
or what is wrong with it; `S` brings samples and is answered with one result each: `[outcome, codes]`, or
`[null, kind of error]`.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias

import orjson

from app.domain.canonical import parse_instant
from app.domain.channel import Channel, ChannelId, ChannelKind, ChannelState, TierAssignment
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy
from app.domain.errors import ApplicationError, ConsentMissingError, PolicyError
from app.domain.intake import read_application
from app.domain.screening import screen, stand
from app.domain.settlement import settle

POLICY, SAMPLES = b"P", b"S"
LENGTH_BYTES = 4
PATIENCE_SECONDS = 20.0
"""How long the worker waits for a batch. Long, since a process that gives way to all others may have to wait itself."""
COMPILE_CPU_SECONDS, BATCH_CPU_SECONDS = 5.0, 0.5
"""How much processor one frame may take, some hundred times what it does take: more is an evaluation without an end."""
_MARGIN_SECONDS = 5.0

REFUSED = "refused"
"""Stands for the outcome of an application that the challenger does not read: live, it would be a 422."""

Result: TypeAlias = "tuple[str | None, list[str] | str]"
Evaluate: TypeAlias = "Callable[[CompiledPolicy, list[Any]], Result]"


def evaluate(policy: CompiledPolicy, sample: list[Any]) -> Result:
    """The outcome and the codes of the reasons under the challenger, for the channel as it stood.

    Facts that only the transaction knows are left out.
    """
    payload, decided_at, code, state, served, tier = sample
    at = parse_instant(decided_at)
    since = at - timedelta(days=1)
    channel = Channel(
        channel_id=ChannelId(0),
        code=code,
        kind=ChannelKind.ONLINE,
        state=ChannelState(state),
        valid_from=since,
        valid_to=None if served else at,
        assignments=() if tier is None else (TierAssignment(tier=tier, valid_from=since),),
    )
    try:
        application = read_application(payload, policy)
        screening = screen(policy, stand(policy, channel, application, at), application, at)
    except (ApplicationError, ConsentMissingError):
        return REFUSED, []
    decision = settle(screening)
    return decision.outcome.value, [reason.code for reason in decision.reasons]


def serve(connection: socket.socket, evaluate_one: Evaluate) -> None:
    """Answer frames until the worker closes the connection.

    A frame that takes too much of the processor ends the process by a signal, whatever code it is in; one that takes
    too long does, too, even where the worker is gone.
    """
    policy: CompiledPolicy | None = None
    with connection, connection.makefile("rb") as frames:
        while head := frames.read(LENGTH_BYTES):
            kind, body = frames.read(1), orjson.loads(frames.read(int.from_bytes(head, "big")))
            signal.setitimer(signal.ITIMER_PROF, COMPILE_CPU_SECONDS if kind == POLICY else BATCH_CPU_SECONDS)
            signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS + _MARGIN_SECONDS)
            if kind == POLICY:
                policy, answer = _compiled(body)
            else:
                assert policy is not None
                answer = [_result(policy, sample, evaluate_one) for sample in body]
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            encoded = orjson.dumps(answer)
            connection.sendall(len(encoded).to_bytes(LENGTH_BYTES, "big") + encoded)


def _compiled(document: Any) -> tuple[CompiledPolicy | None, list[Any]]:
    try:
        return compile_policy(document), []
    except PolicyError as error:
        return None, [str(problem) for problem in error.problems]


def _result(policy: CompiledPolicy, sample: list[Any], evaluate_one: Evaluate) -> Result:
    try:
        return evaluate_one(policy, sample)
    except Exception as error:  # whatever the challenger does is a result, and its text may quote a person's data
        return None, type(error).__name__


def main(connection: socket.socket) -> None:
    """Serve real evaluations."""
    serve(connection, evaluate)
