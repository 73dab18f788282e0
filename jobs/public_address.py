"""Where a URL that a client has named leads, and whether we may go there. Knows no HTTP.

A server that fetches what it is told to can be sent to its own neighbours (SSRF). So a name is
resolved here once, every address that it has must be one of the public Internet, and whoever
connects uses the address found, not the name: a name that answers differently the second time
(DNS rebinding) gains nothing.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

_PORTS = frozenset({443, 8443})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Python's `is_global` lets these pass, some of them in some of its versions only.
_INWARDS = [
    ipaddress.ip_network(net)
    for net in (
        "::/96",  # IPv4 behind zeros
        "::ffff:0:0:0/96",  # IPv4, translated
        "64:ff9b:1::/48",  # translators of one's own network
        "fec0::/10",  # site-local, of old
    )
]
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Collection[str]]


class RefusedAddress(ValueError):
    """A URL leads to where this server does not go; the message says why."""


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """A place to connect to: the address, and the name that its certificate must have."""

    scheme: str
    host: str
    address: str
    port: int
    target: str  # path and query


def _resolve(host: str, port: int) -> Collection[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return {str(entry[4][0]) for entry in found}


def public_address(
    url: str, allowed: Collection[str] = (), *, resolve: Resolve = _resolve
) -> PublicAddress:
    """Say where a URL leads.

    `allowed` are hosts, as `host` or `host:port`, to which the operator lets it lead wherever they
    are, without TLS too.

    Raises:
        RefusedAddress: it is no such URL, its name is unknown, or it leads into a private network.
    """
    check_url(url, allowed)
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        addresses = sorted(resolve(host, port))
    except (OSError, UnicodeError) as error:
        raise RefusedAddress(f"the name {host[:80]!r} cannot be resolved: {error}") from None
    if not addresses:
        raise RefusedAddress(f"the name {host[:80]!r} has no address")
    if not _is_allowed(host, port, allowed):
        for address in addresses:
            if not _is_public(address):
                raise RefusedAddress(f"{host[:80]} leads to {address}, which is not public")
    target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    return PublicAddress(parts.scheme, host, addresses[0], port, target)


def check_url(url: str, allowed: Collection[str] = ()) -> None:
    """Check what can be told of a URL without resolving its name.

    Raises:
        RefusedAddress: see `public_address`.
    """
    if len(url) > 2048 or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise RefusedAddress("the URL must be at most 2048 printable ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise RefusedAddress(f"the URL cannot be read: {error}") from None
    if not parts.hostname or parts.username is not None or parts.password is not None:
        raise RefusedAddress("the URL must name a host, and no user")
    if parts.fragment:
        raise RefusedAddress("the URL must not have a fragment")
    if _is_allowed(parts.hostname, port, allowed) and parts.scheme in ("http", "https"):
        return
    if parts.scheme != "https":
        raise RefusedAddress(f"the URL must begin with https://, got {parts.scheme[:20]!r}")
    if port not in _PORTS:
        raise RefusedAddress(f"the port must be 443 or 8443, got {port}")
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        if not any(letter.isalpha() for letter in parts.hostname.rpartition(".")[2][:1]):
            raise RefusedAddress("the host must be a name or an address") from None
        labels = parts.hostname.removesuffix(".").split(".")
        if len(labels) < 2 or not all(map(_LABEL.fullmatch, labels)):
            raise RefusedAddress(f"{parts.hostname[:80]!r} is no name of the Internet") from None
    else:
        if not _is_public(str(address)):
            raise RefusedAddress(f"{address} is not public")


def _is_allowed(host: str, port: int, allowed: Collection[str]) -> bool:
    return host in allowed or f"{host}:{port}" in allowed


def _is_public(text: str) -> bool:
    """Whether an address is one of the public Internet, and hides none that is not."""
    address: _IPAddress = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if any(address in net for net in _INWARDS):
            return False
        inner = address.ipv4_mapped or address.sixtofour or _behind_nat64(address)
        if inner is not None:
            return _is_public(str(inner))
        if address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast


def _behind_nat64(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address not in _NAT64:
        return None
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
