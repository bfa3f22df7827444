"""From where a request comes: the connection's address, or what a proxy that we trust says of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


def client_address(peer: str, forwarded: Iterable[str], trusted: Sequence[Network]) -> str:
    """The nearest address that is not a trusted proxy's, read from the right: what stands further left was written by
    whoever is behind it. `forwarded` are the values of X-Forwarded-For in their order. An entry that is no address ends
    the search at the proxy that has passed it on."""
    if not trusted or not _within(peer, trusted):
        return peer
    nearest = peer
    for entry in reversed([entry.strip() for value in forwarded for entry in value.split(",")]):
        host = _host(entry)
        if host is None:
            return nearest
        nearest = host
        if not _within(host, trusted):
            return nearest
    return nearest


def _host(entry: str) -> str | None:
    """Without the port that some proxies write behind it; None if it is no address."""
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    try:
        return str(ip_address(entry))
    except ValueError:
        return None


def _within(host: str, networks: Sequence[Network]) -> bool:
    try:
        address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
