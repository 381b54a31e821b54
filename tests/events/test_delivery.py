"""Webhooks, against real receivers: at least once, signed, in order of the subject, without an end."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.events.deliveries import oldest_seconds
from app.events.dispatcher import Schedule
from app.observability import metrics
from tests.events.conftest import StartTeller, Teller
from tests.events.receiver import OK, Received, receiving, signature_holds, status
from tests.support.cluster import eventually


async def test_a_change_of_state_is_told_signed_and_without_why(teller: Teller) -> None:
    async with receiving() as receiver:
        webhook = await teller.subscribe(receiver)
        await teller.change("proposed", "probation")
        await eventually(lambda: len(receiver.received) == 2)
    first, second = receiver.received
    assert signature_holds(webhook["secret"], first)
    assert not signature_holds("whsec_" + "A" * 43 + "=", first)
    assert abs(int(first.headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 30
    assert first.headers["content-type"] == "application/json"
    assert second.event["type"] == "channel.state_changed"
    assert second.event["id"] == second.event_id
    assert {name: second.event["data"][name] for name in ("channel", "before", "after")} == {
        "channel": "told",
        "before": "proposed",
        "after": "probation",
    }
    assert b"suspicion" not in second.body
    (delivery,) = await teller.deliveries(second.event_id)
    assert (delivery["state"], delivery["attempt_count"]) == ("delivered", 1)
    (attempt,) = delivery["attempts"]
    assert (attempt["result"], attempt["status"], attempt["excerpt"]) == ("delivered", 204, None)


async def test_a_receiver_that_fails_gets_it_again_until_it_works(teller: Teller) -> None:
    async def fails(number: int, _: Received) -> bytes | None:
        if number == 1:
            return None
        return status(503, b"x" * 5000 + b"never read") if number <= 4 else OK

    refused = metrics.WEBHOOK_DELIVERIES.labels("refused")._value.get()
    async with receiving(fails) as receiver:
        webhook = await teller.subscribe(receiver)
        await teller.change("proposed")
        await eventually(lambda: len(receiver.received) == 5)
        event_id = receiver.received[0].event_id

        async def delivered() -> bool:
            return (await teller.deliveries(event_id))[0]["state"] == "delivered"

        await eventually(delivered)
    assert set(receiver.ids()) == {event_id}
    assert {each.body for each in receiver.received} == {receiver.received[0].body}
    assert all(signature_holds(webhook["secret"], each) for each in receiver.received)
    (delivery,) = await teller.deliveries(event_id)
    results = [attempt["result"] for attempt in delivery["attempts"]]
    assert results == ["delivered", "refused", "refused", "refused", "unreachable"]
    assert delivery["attempts"][1]["status"] == 503
    assert delivery["attempts"][1]["excerpt"] == "x" * 200
    assert metrics.WEBHOOK_DELIVERIES.labels("refused")._value.get() - refused == 3


async def test_a_redirect_is_not_followed(teller: Teller) -> None:
    async with receiving() as trap:

        async def redirects(_: int, __: Received) -> bytes:
            return status(307, b"", f"Location: {trap.url}")

        async with receiving(redirects) as receiver:
            await teller.subscribe(receiver)
            await teller.change("proposed")
            await eventually(lambda: len(receiver.received) >= 2)
    assert trap.received == []


async def test_a_receiver_that_hangs_is_given_up_and_holds_up_nobody_else(teller: Teller) -> None:
    async def hangs(_: int, __: Received) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    async with receiving(hangs) as hanging, receiving() as working:
        await teller.subscribe(hanging)
        await teller.subscribe(working)
        for channel in range(12):
            await teller.change("proposed", channel=f"told-{channel}")
        await eventually(lambda: len(working.received) == 12)
        assert len(set(working.ids())) == 12
        event_id = hanging.received[0].event_id

        async def timed_out() -> bool:
            log = {each["attempts"][-1]["result"] for each in await teller.deliveries(event_id) if each["attempts"]}
            return log == {"timeout", "delivered"}

        await eventually(timed_out)


async def test_a_receiver_that_answers_after_the_time_out_gets_the_same_event_twice(teller: Teller) -> None:
    async def late_once(number: int, _: Received) -> bytes:
        if number == 1:
            await asyncio.sleep(0.8)  # the time-out is 0.5 s
        return OK

    async with receiving(late_once) as receiver:
        await teller.subscribe(receiver)
        await teller.change("proposed")
        await eventually(lambda: len(receiver.received) == 2)
        event_id = receiver.received[0].event_id

        async def delivered() -> bool:
            return (await teller.deliveries(event_id))[0]["state"] == "delivered"

        await eventually(delivered)
    assert receiver.ids() == [event_id, event_id]
    (delivery,) = await teller.deliveries(event_id)
    assert [attempt["result"] for attempt in delivery["attempts"]] == ["delivered", "timeout"]


async def test_events_of_one_subject_come_in_order_though_the_first_one_fails(teller: Teller) -> None:
    async def fails_twice(number: int, _: Received) -> bytes:
        return status(500) if number <= 2 else OK

    async with receiving(fails_twice) as receiver:
        await teller.subscribe(receiver)
        await teller.change("proposed", "probation", "active", "suspended")
        await eventually(lambda: len(receiver.received) == 6)
    told = [each.event["data"]["after"] for each in receiver.received]
    assert told == ["proposed", "proposed", "proposed", "probation", "active", "suspended"]


async def test_both_secrets_sign_until_the_overlap_ends(teller: Teller, owner: asyncpg.Connection) -> None:
    admin = await teller.client("admin")
    async with receiving() as receiver:
        old = await teller.subscribe(receiver)
        path = f"/v1/webhooks/{old['webhook_id']}"
        new = (await admin.post(f"{path}/rotate", json={"overlap_hours": 1})).json()
        await teller.change("proposed")
        await eventually(lambda: len(receiver.received) == 1)
        assert signature_holds(old["secret"], receiver.received[0])
        assert signature_holds(new["secret"], receiver.received[0])
        await owner.execute("UPDATE gate.webhook_secrets SET ends_at = now() WHERE number = 1")
        await teller.change("probation")
        await eventually(lambda: len(receiver.received) == 2)
        assert not signature_holds(old["secret"], receiver.received[1])
        assert signature_holds(new["secret"], receiver.received[1])
        at_once = (await admin.post(f"{path}/rotate", json={"overlap_hours": 0})).json()
        await teller.change("active")
        await eventually(lambda: len(receiver.received) == 3)
        assert not signature_holds(new["secret"], receiver.received[2])
        assert signature_holds(at_once["secret"], receiver.received[2])


async def test_an_event_is_sent_again_on_request_under_its_own_id(teller: Teller) -> None:
    origination = await teller.client("origination")
    async with receiving() as receiver:
        await teller.change("proposed")
        event = await teller.newest()
        nobody = await origination.post(f"/v1/events/{event['id']}/redeliver")
        assert nobody.status_code == 409
        await teller.subscribe(receiver)
        for count in (1, 2):
            asked = await origination.post(f"/v1/events/{event['id']}/redeliver")
            assert (asked.status_code, asked.json()) == (202, {"webhooks": 1})
            await eventually(lambda count=count: len(receiver.received) == count)

            async def delivered() -> bool:
                return (await teller.deliveries(event["id"]))[0]["state"] == "delivered"

            await eventually(delivered)
    assert receiver.ids() == [event["id"]] * 2


async def test_a_webhook_hears_only_the_kinds_it_asked_for_and_nothing_once_disabled(teller: Teller) -> None:
    admin = await teller.client("admin")
    async with receiving() as other, receiving() as receiver:
        await teller.subscribe(other, kinds=["reservation.lapsed"])
        webhook = await teller.subscribe(receiver, kinds=["channel.state_changed"])
        await teller.change("proposed")
        await eventually(lambda: len(receiver.received) == 1)
        closed = await admin.post(f"/v1/webhooks/{webhook['webhook_id']}/disable", json={"reason": "replaced"})
        assert closed.json()["disabled_at"] is not None
        working = await teller.subscribe(receiver)
        await teller.change("probation")
        await eventually(lambda: len(receiver.received) == 2)
        (delivery,) = await teller.deliveries(receiver.received[1].event_id)
        assert delivery["webhook_id"] == working["webhook_id"]
        assert other.received == []


async def test_no_secret_and_no_key_is_in_the_database(teller: Teller, owner: asyncpg.Connection) -> None:
    async with receiving() as receiver:
        webhook = await teller.subscribe(receiver)
    secret = webhook["secret"].removeprefix("whsec_")
    rows = await owner.fetch("SELECT to_jsonb(s)::text FROM gate.webhook_secrets s")
    audit = await owner.fetch("SELECT payload FROM gate.audit_log WHERE action LIKE 'webhook.%'")
    assert rows
    assert audit
    for row in (*rows, *audit):
        assert secret not in row[0]
        assert base64.b64decode(secret).hex() not in row[0]


async def test_a_service_with_another_key_sends_nothing_rather_than_a_wrong_signature(
    start_teller: StartTeller,
) -> None:
    teller = await start_teller()
    async with receiving() as receiver:
        await teller.subscribe(receiver)
        await teller.app.gate.dispatcher.stop()
        await start_teller(webhook_keys="A" * 43 + "=")
        await teller.change("proposed")
        event = await teller.newest()

        async def blocked() -> bool:
            (delivery,) = await teller.deliveries(event["id"])
            return any(attempt["result"] == "blocked" for attempt in delivery["attempts"])

        await eventually(blocked)
    assert receiver.received == []


async def test_how_long_the_oldest_event_waits_is_reported(teller: Teller, owner: asyncpg.Connection) -> None:
    async def refuses(_: int, __: Received) -> bytes:
        return status(500)

    engine = teller.app.gate.read_engine
    async with receiving(refuses) as receiver:
        async with engine.connect() as connection:
            assert await oldest_seconds(connection) == 0.0
        await teller.subscribe(receiver)
        await teller.change("proposed")
        await owner.execute("UPDATE gate.webhook_deliveries SET due_since = now() - interval '20 minutes'")
        async with engine.connect() as connection:
            assert await oldest_seconds(connection) == pytest.approx(1200, abs=30)


@given(attempt=st.integers(1, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_the_wait_grows_to_its_cap_and_never_ends(attempt: int, jitter: float) -> None:
    schedule = Schedule(first_retry_seconds=5, longest_retry_seconds=3600)
    whole = min(5 * 2 ** (attempt - 1), 3600)
    assert whole / 2 <= schedule.retry_seconds(attempt, jitter) <= whole
