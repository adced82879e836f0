"""Parses the entitlements that identity providers report, and compares them with required ones. Used by hub and gateway.

Two notations of group membership are equivalent: that of AARC-G069,
``<namespace>:group:<group>[:<subgroup>...][:role=<role>]#<authority>``, and the older one of EGI Check-in,
``urn:mace:egi.eu:<authority>:<role>@<group>``. Everything else is compared literally.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

MOST = 500
"""Most entitlements of one person that are considered."""
LONGEST = 1024
"""Most characters of an entitlement."""
_AARC = re.compile(
    r"(?P<root>urn:[^#\s]+?):group:(?P<group>[^#\s]+?)(?::role=(?P<role>[^:#\s]+))?(?:#(?P<authority>[^#\s]+))?"
)
_OLDER = re.compile(r"(?P<root>urn:mace:egi\.eu):(?P<authority>[^:@#\s]+):(?P<role>[^:@#\s]+)@(?P<group>[^:@#\s]+)")


@dataclass(frozen=True)
class Group:
    """Membership of a group. An empty ``role`` or ``authority`` matches any."""

    root: str
    group: str
    role: str
    authority: str

    def covers(self, other: Group) -> bool:
        """Whether the membership ``other`` satisfies this one."""
        return (
            self.root == other.root
            and self.group == other.group
            and self.role in ("", other.role)
            and self.authority in ("", other.authority)
        )


def parse(text: str) -> Group | None:
    """The group membership that an entitlement expresses; None when it expresses something else."""
    found = _OLDER.fullmatch(text) or _AARC.fullmatch(text)
    if found is None:
        return None
    return Group(found["root"].lower(), found["group"], found["role"] or "", (found["authority"] or "").lower())


def listed(claim: object) -> tuple[str, ...]:
    """The entitlements in a claim, which may be a list of strings or one string separated by spaces."""
    if isinstance(claim, str):
        claim = claim.split()
    if not isinstance(claim, list):
        return ()
    return tuple(each for each in claim[:MOST] if isinstance(each, str) and len(each) <= LONGEST)


def satisfied(asked: Iterable[str], told: Iterable[str]) -> bool:
    """Whether a person with the entitlements ``told`` has at least one of those in ``asked``. False when ``asked`` is empty."""
    has = tuple(told)
    groups = tuple(group for group in map(parse, has) if group is not None)
    for each in asked:
        wanted = parse(each)
        if each in has or (wanted is not None and any(wanted.covers(group) for group in groups)):
            return True
    return False
