"""What people are entitled to, as identity providers say it, and whether that is what is asked for. Both planes' programs use it.

Two forms of group membership mean the same: that of AARC-G069,
``<namespace>:group:<group>[:<subgroup>...][:role=<role>]#<authority>``, and the older one of EGI Check-in,
``urn:mace:egi.eu:<authority>:<role>@<group>``. All else is compared as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

MOST = 500
"""Entitlements of one person that are looked at."""
LONGEST = 1024
"""Characters of one."""
_AARC = re.compile(
    r"(?P<root>urn:[^#\s]+?):group:(?P<group>[^#\s]+?)(?::role=(?P<role>[^:#\s]+))?(?:#(?P<authority>[^#\s]+))?"
)
_OLDER = re.compile(r"(?P<root>urn:mace:egi\.eu):(?P<authority>[^:@#\s]+):(?P<role>[^:@#\s]+)@(?P<group>[^:@#\s]+)")


@dataclass(frozen=True)
class Group:
    """Membership of a group. ``role`` empty: any; ``authority`` empty: whoever said it."""

    root: str
    group: str
    role: str
    authority: str

    def covers(self, other: Group) -> bool:
        """Whether whoever has ``other`` has this."""
        return (
            self.root == other.root
            and self.group == other.group
            and self.role in ("", other.role)
            and self.authority in ("", other.authority)
        )


def parse(text: str) -> Group | None:
    """The membership that an entitlement says; None when it says something else."""
    found = _OLDER.fullmatch(text) or _AARC.fullmatch(text)
    if found is None:
        return None
    return Group(found["root"].lower(), found["group"], found["role"] or "", (found["authority"] or "").lower())


def listed(claim: object) -> tuple[str, ...]:
    """A claim as providers write it: a list of texts, or one text, with spaces between several."""
    if isinstance(claim, str):
        claim = claim.split()
    if not isinstance(claim, list):
        return ()
    return tuple(each for each in claim[:MOST] if isinstance(each, str) and len(each) <= LONGEST)


def satisfied(asked: Iterable[str], told: Iterable[str]) -> bool:
    """Whether one of those that are ``asked`` for is among those ``told`` of a person. False when none is asked for."""
    has = tuple(told)
    groups = tuple(group for group in map(parse, has) if group is not None)
    for each in asked:
        wanted = parse(each)
        if each in has or (wanted is not None and any(wanted.covers(group) for group in groups)):
            return True
    return False
