"""Which addresses sources may be fetched from: a namespace's setting sourceHosts, as both planes parse it. Pure functions.

The default is https to any public address. Each entry allows more: ``https://cvat.lab.example`` a host with private addresses,
``http://10.3.0.7:8080`` one without TLS, ``10.20.0.0/16`` https to every host with addresses in a network. An entry without a
port means the scheme's default port, ``:*`` means any. No entry can allow link-local addresses (where clouds serve credentials of
machines), multicast, unspecified and reserved addresses.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

VARIABLE = "PELAGOS_SOURCE_HOSTS"
"""Environment variable of the operator in embedded mode, and of each step that fetches."""
OF = "PELAGOS_SOURCE_HOSTS_OF"
"""Environment variable of steps on a cluster: where people find the setting, for messages."""
AUTHORITY = "PELAGOS_SOURCE_CA"
"""Environment variable of both: a file with certificate authorities of servers, beside the public ones."""
KEY = "sourceHosts"
"""Key in the tenant's ConfigMap."""
LONGEST = 4000
MOST = 100
"""Most entries."""
PORTS = {"https": 443, "http": 80}
_LABEL = r"[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?"
HOST = rf"({_LABEL}\.){{0,20}}{_LABEL}"
PATTERN = "[][A-Za-z0-9:/.*_-]+([ ,]+[][A-Za-z0-9:/.*_-]+)*"
"""Pattern of the whole value for Python, RE2 and CEL, without escapes that CEL lacks. `parse` gives more precise errors."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Host:
    """A host, or with ``below`` all hosts in its domain. ``port`` None: any."""

    scheme: str
    name: str
    port: int | None
    below: bool = False

    def covers(self, scheme: str, host: str, port: int) -> bool:
        """Whether this entry allows the address; ``host`` in lower case."""
        named = host.endswith(f".{self.name}") if self.below else host == self.name
        return named and scheme == self.scheme and self.port in {None, port}


@dataclass(frozen=True)
class Allowed:
    """What a setting allows in addition to https to public addresses."""

    hosts: tuple[Host, ...] = ()
    networks: tuple[Network, ...] = ()

    def host(self, scheme: str, host: str, port: int) -> bool:
        """Whether an entry names the host."""
        return any(entry.covers(scheme, host, port) for entry in self.hosts)

    def address(self, address: Address) -> bool:
        """Whether an entry names a network that contains the address."""
        return any(address.version == network.version and address in network for network in self.networks)


def parse(value: str) -> Allowed:
    """Parse the setting. Raises ValueError with the invalid entry and what is allowed."""
    entries = [part for part in re.split(r"[ ,]+", value.strip()) if part]
    if len(value) > LONGEST or len(entries) > MOST:
        raise ValueError(f"it has {len(entries)} entries and {len(value)} characters; at most {MOST} and {LONGEST}")
    hosts, networks = list[Host](), list[Network]()
    for entry in entries:
        found = _network(entry)
        if found is not None:
            networks.append(found)
        else:
            hosts.append(_host(entry))
    return Allowed(tuple(hosts), tuple(networks))


def entry(scheme: str, host: str, port: int) -> str:
    """The entry that would allow this host."""
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" + ("" if PORTS.get(scheme) == port else f":{port}")


def literal(host: str) -> Address | None:
    """The IP address that a host is written as; None for a name. Raises ValueError for unusual notations of addresses.

    Resolvers would also accept ``2130706433``, ``0x7f.1`` or ``0177.0.0.1`` as 127.0.0.1.
    """
    if ":" in host:
        address = ipaddress.IPv6Address(host)
        if "%" in host or _embedded(address) is not None:
            raise ValueError("it has a zone, or represents an IPv4 address")
        return address
    last = host.rsplit(".", 1)[-1]
    if last.isdigit() or re.fullmatch(r"0[xX][0-9a-fA-F]*", last):
        return ipaddress.IPv4Address(host)
    return None


def obstacle(address: Address) -> str | None:
    """Why an address is not public: ``private``, ``link-local`` ...; None for a public one."""
    inner = _embedded(address)
    if inner is not None:
        return obstacle(inner)
    for kind, is_it in (
        ("multicast", address.is_multicast),
        ("unspecified", address.is_unspecified),
        ("loopback", address.is_loopback),
        ("link-local", address.is_link_local),
        ("reserved", address.is_reserved),
        ("private", address.is_private),
    ):
        if is_it:
            return kind
    return None if address.is_global else "private"


def is_never_allowed(address: Address) -> bool:
    """Whether no entry can allow this address."""
    kind = obstacle(address)
    # An embedded private IPv4 address is an attempt to hide it; embedded public ones are normal in IPv6-only networks.
    is_hidden = _embedded(address) is not None and kind is not None
    return is_hidden or kind in {"multicast", "unspecified", "link-local", "reserved"}


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address within an IPv6 address: mapped, translated or tunnelled; None without one."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _TRANSLATED or (address in _COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_ALLOWED = (
    "allowed are https://host, http://host:port, https://*.domain, :* for any port, and networks such as 10.20.0.0/16"
)


def _network(entry: str) -> Network | None:
    if "://" in entry or "/" not in entry:
        return None
    try:
        return ipaddress.ip_network(entry)
    except ValueError as error:
        raise ValueError(f"{entry!r} is not a network ({error}); {_ALLOWED}") from None


def _host(entry: str) -> Host:
    found = re.fullmatch(r"(?:(https?)://)?(\*\.)?(\[[0-9a-f:.]+\]|[^\[\]:/*]+)(?::([0-9]{1,5}|\*))?/?", entry.lower())
    if found is None:
        raise ValueError(f"{entry!r} is not a host; {_ALLOWED}")
    scheme, below, host, port = found[1] or "https", bool(found[2]), found[3].strip("[]"), found[4]
    try:
        address = literal(host)
    except ValueError:
        raise ValueError(f"{entry!r} has an address that is not in the usual form; {_ALLOWED}") from None
    if address is None and re.fullmatch(HOST, host) is None:
        raise ValueError(f"{entry!r} is not a host; {_ALLOWED}")
    if below and (address is not None or "." not in host):
        raise ValueError(f"{entry!r} allows too much: name a domain with at least two parts; {_ALLOWED}")
    number = None if port == "*" else int(port) if port else PORTS[scheme]
    if number is not None and not 0 < number < 65536:
        raise ValueError(f"{entry!r} has an invalid port; {_ALLOWED}")
    return Host(scheme, str(address) if address is not None else host, number, below)
