"""`channel-gate reviews`: how the queue stands, and how two persons accept what takes two."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import orjson
import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cli.errors import CommandError
from app.cli.governance import Actor, change_of, governed
from app.cli.signing import Person, Secret, sign
from app.domain.review import Age, Resolution, approved_subject, proposal_digest, proposed_subject
from app.domain.signing import Statement
from app.governance.signature import new_nonce
from app.reviews import queue, work
from app.reviews.queue import Review, ReviewFilter

app = typer.Typer(name="reviews", help="Work off what a person has to decide.", no_args_is_help=True)

DecisionId = Annotated[UUID, typer.Argument(help="The decision's id.")]
Reason = Annotated[str, typer.Option(help="Why. It stays in the history of the review until an erasure blanks it.")]
Minutes = Annotated[int, typer.Option(min=1, max=480, help="For how long to hold it.")]


@app.command("list")
def list_open(
    age: Annotated[Age | None, typer.Option(help="Only those of this age.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=queue.MAX_PAGE)] = 50,
) -> None:
    """List what is open, what is due first at the top."""

    async def read(connection: AsyncConnection) -> tuple[Review, ...]:
        await queue.gather(connection)
        now = datetime.now(UTC)
        return await queue.list_reviews(connection, ReviewFilter(age=age), at=now, after=None, limit=limit)

    for review in governed(read):
        typer.echo(_line(review))


@app.command("stats")
def stats() -> None:
    """Say how many are open by age, and for how long the oldest."""

    async def read(connection: AsyncConnection) -> queue.Figures:
        await queue.gather(connection)
        return await queue.figures(connection, datetime.now(UTC))

    found = governed(read)
    oldest = None if found.oldest_seconds is None else round(found.oldest_seconds)
    counts = {age.value: count for age, count in found.open.items()}
    typer.echo(orjson.dumps({"open": counts, "oldest_seconds": oldest}).decode())


@app.command("claim")
def claim(decision_id: DecisionId, person: Person, actor: Actor, minutes: Minutes = 30) -> None:
    """Hold a review, so that nobody else works on it."""
    lease, change = timedelta(minutes=minutes), change_of(actor)
    typer.echo(_line(governed(lambda link: work.claim(link, decision_id, holder=person, lease=lease, change=change))))


@app.command("release")
def release(decision_id: DecisionId, person: Person, actor: Actor) -> None:
    """Give it back."""
    change = change_of(actor)
    typer.echo(_line(governed(lambda link: work.release(link, decision_id, holder=person, change=change))))


@app.command("resolve")
def resolve(
    *,
    decision_id: DecisionId,
    resolution: Annotated[Resolution, typer.Argument()],
    reason: Reason,
    person: Person,
    secret: Secret,
    actor: Actor,
) -> None:
    """Accept or reject what you hold. Where accepting takes two persons, this is the first one's signature."""

    async def work_on(connection: AsyncConnection) -> Review:
        review = await _found(connection, decision_id)
        signature, nonce = None, None
        rules_ask = resolution is Resolution.ACCEPT and review.two_persons
        if rules_ask and not (await connection.exec_driver_sql("SELECT single_person FROM gate.governance")).scalar():
            nonce = new_nonce()
            statement = Statement(
                act="request",
                subject=proposed_subject(str(decision_id)),
                nonce=nonce,
                digest=proposal_digest(work.proposal_of(review, reason)),
            )
            signature = sign(person, secret, statement)
        return await work.resolve(
            connection,
            review,
            resolution,
            reason=reason,
            holder=person,
            signature=signature,
            nonce=nonce,
            change=change_of(actor),
        )

    typer.echo(_line(governed(work_on)))


@app.command("approve")
def approve(
    *,
    decision_id: DecisionId,
    proposal: Annotated[str, typer.Option(help="Digest of the proposal that you have read (`reviews list`).")],
    person: Person,
    secret: Secret,
    actor: Actor,
) -> None:
    """Accept what another proposed, as a second person."""

    async def work_on(connection: AsyncConnection) -> Review:
        review = await _found(connection, decision_id)
        if review.proposal is None or review.nonce is None:
            raise CommandError("nobody has proposed to accept it")
        digest = proposal_digest(review.proposal)
        if digest.hex() != proposal:
            raise CommandError("something else is proposed")
        statement = Statement(
            act="approve", subject=approved_subject(str(decision_id)), nonce=review.nonce, digest=digest
        )
        return await work.approve(
            connection,
            decision_id,
            version=review.version,
            signature=sign(person, secret, statement),
            digest=digest,
            change=change_of(actor),
        )

    typer.echo(_line(governed(work_on)))


@app.command("gather")
def gather(
    whole_log: Annotated[bool, typer.Option("--all", help="Read the whole log again, not only what is new.")] = False,
) -> None:
    """Bring the queue up to the log. The workers do it all the time."""
    gathered = governed(lambda link: queue.gather(link, whole_log=whole_log))
    closed = governed(queue.supersede)
    typer.echo(f"gathered {gathered} reviews; {closed} were overtaken by an amendment")


async def _found(connection: AsyncConnection, decision_id: UUID) -> Review:
    await queue.gather(connection)
    found = await queue.find_review(connection, decision_id)
    if found is None:
        raise CommandError("there is nothing to review about that decision")
    return found


def _line(review: Review) -> str:
    """One review in a line: what is needed to go on with it, and no applicant's data."""
    shown = {
        "decision_id": str(review.decision_id),
        "state": review.state,
        "kind": review.kind,
        "age": review.age(datetime.now(UTC)),
        "due_at": review.due_at,
        "priority": review.priority,
        "channel": review.channel_code,
        "amount": review.amount,
        "currency": review.currency,
        "reasons": review.reason_codes,
        "two_persons": review.two_persons,
        "holder": review.holder,
    }
    if review.proposal is not None:
        shown |= {"proposal": review.proposal, "proposal_digest": proposal_digest(review.proposal).hex()}
    return orjson.dumps(shown).decode()
