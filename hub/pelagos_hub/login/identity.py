"""A person's identity from the claims of an OpenID provider, which are untrusted input and bounded here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pelagos_contract import entitlements

_LONGEST_NAME = 100
_LONGEST_KEY = 512


class UnknownPersonError(ValueError):
    """The provider does not identify the person; the message names the claim."""


@dataclass(frozen=True)
class Person:
    """A person who logged in."""

    key: str
    """Pseudonym, the same at every login; the only identification that is written to the cluster."""
    name: str
    """Display name, for pages only."""
    entitlements: frozenset[str] = frozenset()


def pseudonym(issuer: str, user: str) -> str:
    """16 hex digits of the SHA-256 of both: the same for a person at every login, without revealing name or address."""
    return hashlib.sha256(f"{issuer}|{user}".encode()).hexdigest()[:16]


def person(issuer: str, claims: Mapping[str, Any], user_claim: str, entitlements_claim: str) -> Person:
    """The person in the claims of UserInfo, whose values may be strings or arrays of strings. Raises UnknownPersonError."""
    user = next(iter(_texts(claims.get(user_claim)) or _texts(claims.get("sub"))), "")
    if not user or len(user) > _LONGEST_KEY:
        raise UnknownPersonError(f"the claim {user_claim} is missing or longer than {_LONGEST_KEY} characters")
    given = (_texts(claims.get(name)) for name in ("name", "preferred_username"))
    name = next((found[0] for found in given if found and found[0].strip()), "Signed in")
    held = entitlements.listed(_at(claims, entitlements_claim))
    return Person(pseudonym(issuer, user), name.strip()[:_LONGEST_NAME], frozenset(held))


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of this name, which may contain dots, else the nested value that the dotted path leads to."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    return [text for text in value if isinstance(text, str) and text] if isinstance(value, list) else []
