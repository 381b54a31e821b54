"""Where a webhook may lead."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from app.events.guard import BlockedUrlError, UnresolvedHostError, UrlGuard, parse_networks
from tests.events.conftest import StartTeller, Teller
from tests.events.receiver import receiving
from tests.support.cluster import eventually

PUBLIC = UrlGuard()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "https://user:word@example.com/",
        "https://example.com/#part",
        "https:///nowhere",
        "https://localhost/",
        "https://127.0.0.1/",
        "https://10.1.2.3/",
        "https://192.168.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://[::1]/",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::a00:1]/",
        "https://[2002:a00:1::]/",
    ],
)
def test_what_is_not_public_https_is_refused(url: str) -> None:
    with pytest.raises(BlockedUrlError):
        PUBLIC.check_form(url)


@pytest.mark.parametrize("url", ["https://example.com/a?b=c", "https://8.8.8.8:8443/", "https://[2606:4700::1]/"])
def test_public_https_is_taken(url: str) -> None:
    assert str(PUBLIC.check_form(url)) == url


def test_loopback_and_networks_are_allowed_where_the_operator_says_so() -> None:
    assert UrlGuard(loopback=True).check_form("http://127.0.0.1:9/")
    inner = UrlGuard(networks=parse_networks("10.1.0.0/16, fd00::/8"))
    assert inner.check_form("https://10.1.2.3/")
    for url in ("http://10.1.2.3/", "https://10.2.0.1/", "https://127.0.0.1/"):
        with pytest.raises(BlockedUrlError):
            inner.check_form(url)
    with pytest.raises(BlockedUrlError):
        UrlGuard(loopback=True).check_form("http://8.8.8.8/")


def _names(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    async def getaddrinfo(_host: str, port: int, **_: Any) -> list[Any]:
        if not addresses:
            raise socket.gaierror
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


async def test_a_name_is_connected_at_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    _names(monkeypatch, "93.184.216.34")
    target = await PUBLIC.resolve("https://hooks.example.com:8443/a?b=c")
    assert str(target.url) == "https://93.184.216.34:8443/a?b=c"
    assert (target.host_header, target.server_name) == ("hooks.example.com:8443", "hooks.example.com")


async def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _names(monkeypatch, "93.184.216.34", "10.0.0.1")
    with pytest.raises(BlockedUrlError):
        await PUBLIC.resolve("https://hooks.example.com/")


async def test_a_name_without_an_address_is_unresolved(monkeypatch: pytest.MonkeyPatch) -> None:
    _names(monkeypatch)
    with pytest.raises(UnresolvedHostError):
        await PUBLIC.resolve("https://hooks.example.com/")


async def test_a_webhook_into_the_own_network_is_refused_when_it_is_registered(start_teller: StartTeller) -> None:
    teller = await start_teller(webhook_loopback=False)
    admin = await teller.client("admin")
    for url in ("http://127.0.0.1:1/", "https://10.0.0.1/"):
        answer = await admin.post("/v1/webhooks", json={"originator": "demo-origination", "url": url})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/url"


async def test_a_webhook_that_leads_inside_meanwhile_is_not_called(teller: Teller, start_teller: StartTeller) -> None:
    async with receiving() as receiver:
        await teller.subscribe(receiver)
        await teller.app.gate.dispatcher.stop()
        strict = await start_teller(webhook_loopback=False)
        await strict.change("proposed")
        event = await strict.newest()

        async def blocked() -> bool:
            (delivery,) = await strict.deliveries(event["id"])
            return any(attempt["result"] == "blocked" for attempt in delivery["attempts"])

        await eventually(blocked)
    assert receiver.received == []


async def test_only_admins_register_rotate_and_disable(teller: Teller) -> None:
    async with receiving() as receiver:
        webhook = await teller.subscribe(receiver)
    origination = await teller.client("origination")
    path = f"/v1/webhooks/{webhook['webhook_id']}"
    assert (await origination.get(path)).json()["url"] == webhook["url"]
    assert "secret" not in (await origination.get(path)).json()
    new = {"originator": "demo-origination", "url": "https://example.com/"}
    for call in (
        origination.post("/v1/webhooks", json=new),
        origination.post(f"{path}/rotate", json={}),
        origination.post(f"{path}/disable", json={"reason": "x"}),
        (await teller.client("analyst")).get("/v1/webhooks"),
    ):
        assert (await call).status_code == 403


async def test_without_keys_there_are_no_webhooks(start_teller: StartTeller) -> None:
    teller = await start_teller(webhook_keys=None)
    new = {"originator": "demo-origination", "url": "https://example.com/"}
    assert (await (await teller.client("admin")).post("/v1/webhooks", json=new)).status_code == 409
