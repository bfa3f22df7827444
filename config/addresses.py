"""HOST:PORT, as it stands in the configuration and on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator, Field

_EVERY_ADDRESS = {"0.0.0.0", "::"}  # noqa: S104  # compared with, not bound to


def split_address(address: str) -> tuple[str, int]:
    """("127.0.0.1", 1883) of "127.0.0.1:1883"; an IPv6 host loses its brackets, an empty host means every address."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def collide(one: str, other: str) -> bool:
    """Whether both cannot be bound at once. 0.0.0.0 and [::] can: the one is IPv4 only, the other IPv6 only."""
    (host, port), (other_host, other_port) = split_address(one), split_address(other)
    if port != other_port or port == 0:
        return False
    hosts = {"127.0.0.1" if name == "localhost" else name for name in (host, other_host)}
    if len(hosts) == 1 or "" in hosts:
        return True
    same_family = (":" in host) == (":" in other_host)
    return same_family and not hosts.isdisjoint(_EVERY_ADDRESS)


LOOPBACK = ("127.0.0.0/8", "::1/128")
"""Networks of this machine: addresses that nobody else can have."""


def may_ask(peer: str, forwarded: bool, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Whether what is for the operator is for a caller at this address: in one of the networks, and not through a proxy
    (`forwarded`), because then the address is the proxy's."""
    if forwarded:
        return False
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in networks)


def network_of(host: str) -> str:
    """Whom to count an address as: an IPv6 host commonly owns a whole /64. What is no address stands for itself."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ip_network((address, 64), strict=False))
    return str(address)


def _checked(address: str) -> str:
    host, port = split_address(address)
    if ":" in host:
        IPv6Address(host)
    if port > 65_535:
        raise ValueError("the port must be at most 65535")
    return address


Address = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^:\s\[\]]*):\d{1,5}$"), AfterValidator(_checked)]
"""HOST:PORT; an IPv6 host stands in brackets, no host means every address, port 0 takes a free one."""
