"""Where a webhook may lead: never into the bank's own network, unless an operator says so.

The URL is checked when it is registered and again before every attempt, by the addresses that its name has then; the
connection goes to the very address that was checked. So a name that changes its mind in between gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

import httpx

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_TRANSLATED = tuple(ip_network(each) for each in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))
"""IPv6 that carries an IPv4 address: NAT64, 6to4 and Teredo would lead around the check."""


class BlockedUrlError(Exception):
    """A URL that no webhook may have. The text says why and repeats nothing of it."""


class UnresolvedHostError(Exception):
    """The host of a URL has no address now."""


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks of a setting, separated by commas.

    Raises:
        ValueError: where one is none.
    """
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to connect (`url` names the address that was checked) and whom to ask for there."""

    url: httpx.URL
    host_header: str
    server_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlGuard:
    """What is allowed. `networks` are not public and allowed all the same; `loopback` allows it, also without TLS."""

    networks: tuple[Network, ...] = ()
    loopback: bool = False

    def check_form(self, url: str) -> httpx.URL:
        """The URL, if what can be told without asking for addresses is right.

        Raises:
            BlockedUrlError: it is not.
        """
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            raise BlockedUrlError("is not a URL") from None
        if not parsed.host:
            raise BlockedUrlError("names no host")
        if parsed.userinfo or parsed.fragment:
            raise BlockedUrlError("must hold no credentials and no fragment")
        if parsed.scheme != "https" and not (parsed.scheme == "http" and self.loopback):
            raise BlockedUrlError("must begin with https://")
        try:
            literal = ip_address(parsed.host)
        except ValueError:
            if parsed.host == "localhost" and not self.loopback:
                raise BlockedUrlError("leads to an address that is not public") from None
        else:
            self._check_address(literal, parsed.scheme)
        return parsed

    async def resolve(self, url: str) -> Target:
        """Where to connect for this URL. Every address of its name must be allowed.

        Raises:
            BlockedUrlError: one is not, or the URL itself is not.
            UnresolvedHostError: there is none.
        """
        parsed = self.check_form(url)
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                parsed.host, parsed.port or (443 if parsed.scheme == "https" else 80), type=socket.SOCK_STREAM
            )
        except (OSError, UnicodeError):
            raise UnresolvedHostError("the host has no address") from None
        addresses = [ip_address(str(each[4][0]).partition("%")[0]) for each in found]
        for address in addresses:
            self._check_address(address, parsed.scheme)
        return Target(
            url=parsed.copy_with(host=str(addresses[0])), host_header=parsed.netloc.decode(), server_name=parsed.host
        )

    def _check_address(self, address: Address, scheme: str) -> None:
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if address.is_loopback and self.loopback:
            return
        if scheme != "https":
            raise BlockedUrlError("must begin with https://")
        if any(address in network for network in self.networks):
            return
        translated = any(address in network for network in _TRANSLATED)
        if translated or address.is_multicast or not address.is_global:
            raise BlockedUrlError("leads to an address that is not public")
