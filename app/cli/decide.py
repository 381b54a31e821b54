"""`channel-gate decide`: one application from a file, against a policy file, without a server or a database."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import orjson
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.api.field_errors import field_errors
from app.domain.canonical import parse_instant
from app.domain.channel import ChannelState
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy
from app.domain.errors import ApplicationError, DomainError, PolicyError
from app.domain.fields import FieldKind
from app.domain.intake import read_application
from app.domain.reasons import Outcome
from app.policies.defaults import default_policy
from app.policies.document_text import DocumentTextError, parse_json, parse_yaml
from app.screening.explanation import CAP_NAMES, money_text
from app.screening.payload import read_payload
from app.screening.trial import Trial, try_application

app = typer.Typer()

_SHOWN_FAULTS = 3
_STYLES = {Outcome.ACCEPT: "bold green", Outcome.ESCALATE: "bold yellow", Outcome.REJECT: "bold red"}


@app.command("decide")
def decide(
    file: Annotated[
        Path, typer.Argument(help="The application as JSON, as the service takes it; - for standard input.")
    ],
    *,
    policy: Annotated[
        Path | None, typer.Option(help="Policy as JSON or YAML. Default: the policy that the gate comes with.")
    ] = None,
    channel_state: Annotated[ChannelState, typer.Option(help="State that the channel is in.")] = ChannelState.ACTIVE,
    tier: Annotated[str | None, typer.Option(help="Tier of the channel. Default: the policy's default tier.")] = None,
    at: Annotated[
        str | None, typer.Option(help="Moment of the decision, such as 2026-11-24T10:00:00Z. Default: now.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer and the whole record as JSON.")] = False,
) -> None:
    """Decide one application and say why, also under the other tiers. Nothing is stored.

    Ends with 0 whatever the outcome, and with 2 where the application or the policy cannot be decided with.
    """
    compiled = _policy(policy)
    moment = _moment(at)
    try:
        application = read_application(_payload(file), compiled)
        trial = try_application(compiled, application, moment, state=channel_state, tier=tier)
    except ApplicationError as error:
        _refuse(f"{file}: {_told((fault.pointer, fault.detail) for fault in error.problems)}")
    except DomainError as error:
        _refuse(f"{file}: {error}")
    if as_json:
        typer.echo(orjson.dumps(trial.document(), option=orjson.OPT_INDENT_2).decode())
    else:
        _print(trial, Console(highlight=False))


def _policy(file: Path | None) -> CompiledPolicy:
    if file is None:
        return compile_policy(default_policy())
    try:
        text = file.read_bytes()
        parse = parse_json if file.suffix.lower() == ".json" else parse_yaml
        return compile_policy(parse(text))
    except OSError as error:
        _refuse(f"{file}: {error.strerror or type(error).__name__}")
    except DocumentTextError as error:
        _refuse(f"{file}: {error}")
    except PolicyError as error:
        _refuse(f"{file}: {_told((f'{fault.row} {fault.column}', fault.detail) for fault in error.problems)}")


def _payload(file: Path) -> Mapping[str, object]:
    try:
        body = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return read_payload(body)
    except OSError as error:
        _refuse(f"{file}: {error.strerror or type(error).__name__}")
    except ValidationError as error:
        faults = field_errors(error.errors(include_url=False, include_input=False))
        _refuse(f"{file}: {_told((fault.pointer, fault.detail) for fault in faults)}")


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        return parse_instant(text).astimezone(UTC)
    except (ValueError, OverflowError):
        _refuse("--at must be an instant with a UTC offset, such as 2026-11-24T10:00:00Z")


def _told(faults: Iterable[tuple[str, str]]) -> str:
    """The first faults on one line, and how many more there are."""
    told = [f"{where or 'the whole of it'} {what}" for where, what in faults]
    more = len(told) - _SHOWN_FAULTS
    return "; ".join(told[:_SHOWN_FAULTS]) + (f"; and {more} more" if more > 0 else "")


def _refuse(why: str) -> NoReturn:
    typer.echo(f"error: {' '.join(why.split())}", err=True)
    raise typer.Exit(2)


def _print(trial: Trial, console: Console) -> None:
    decision = trial.decision
    screening = decision.screening
    application, ceiling, standing = screening.application, screening.ceiling, screening.standing
    console.print(
        Text.assemble(
            (decision.outcome.value, _STYLES[decision.outcome]),
            f" -> {decision.next_action.value}   application {application.application_id}, ",
            f"{money_text(application.amount, application.currency)} over {application.term_months} months, ",
            f"tier {standing.tier}",
        )
    )
    if decision.counter_offer is not None:
        offer = decision.counter_offer
        until = offer.valid_until.date().isoformat()
        console.print(f"counter-offer: {money_text(offer.amount, offer.currency)}, valid until {until}")
    if decision.reasons:
        table = Table(box=None, pad_edge=False)
        for column in ("reason", "effect", "field", "observed", "required", "notice"):
            table.add_column(column)
        for reason in decision.reasons:
            field = screening.policy.fields.get(reason.field)
            currency = application.currency if field is not None and field.kind is FieldKind.MONEY else None
            observed = f"unknown ({reason.cause.value})" if reason.cause else _shown(reason.observed, currency)
            required = _shown(reason.threshold, currency)
            cells = (reason.code, reason.effect.value, reason.field, observed, required, reason.text.en)
            table.add_row(*(Text(cell) for cell in cells))
        console.print(table)
    console.print(f"ceiling: {money_text(ceiling.amount, application.currency)} ({CAP_NAMES[ceiling.binding].en})")
    for cap, amount in ceiling.applied:
        console.print(f"  {CAP_NAMES[cap].en}: {money_text(amount, application.currency)}")
    for missing in ceiling.not_applied:
        console.print(f"  {CAP_NAMES[missing.cap].en}: not applied, {missing.field} is unknown ({missing.cause.value})")
    by_tier = ", ".join(f"{tier} {outcome.value}" for tier, outcome in trial.outcomes_by_tier.items())
    console.print(f"under each tier: {by_tier}" + (" (the tier decides)" if trial.tier_decisive else ""))
    if decision.not_evaluated:
        console.print(f"not evaluated here, because they need the log: {', '.join(decision.not_evaluated)}")


def _shown(value: object, currency: str | None) -> str:
    """A value as people read it; `currency` where it is money."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(_shown(item, currency) for item in value)
        case int() if currency is not None:
            return money_text(value, currency)
        case _:
            return str(value)
