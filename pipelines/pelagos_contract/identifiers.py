"""Parses, checks and normalizes identifiers of people, organisations, works, licences and languages. Pure functions.

Each takes a person's input and raises ValueError that says what is allowed.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pydantic import AfterValidator, Field

_ORCID = re.compile(r"(?:https?://orcid\.org/)?([0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{3}[0-9X])")
_ROR = re.compile(r"(?:https?://ror\.org/)?(0[0-9a-hjkmnp-tv-z]{6}[0-9]{2})")
_DOI = re.compile(r"(?:https?://(?:dx\.)?doi\.org/|doi:)?(10\.[0-9]{4,9}/[^\s\"<>]+)", re.IGNORECASE)
_LANGUAGE = re.compile(
    r"(?P<language>[a-z]{2,3})(-(?P<script>[a-z]{4}))?(-(?P<region>[a-z]{2}|[0-9]{3}))?(?P<rest>(-[a-z0-9]{4,8})*)",
    re.IGNORECASE,
)
_DATE = re.compile(r"(?P<year>[0-9]{4})(-(?P<month>[0-9]{2})(-(?P<day>[0-9]{2}))?)?")
_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_KINDS = (
    ("DOI", _DOI),
    ("ORCID", _ORCID),
    ("ROR", _ROR),
    ("arXiv", re.compile(r"arxiv:(.+)", re.IGNORECASE)),
    ("Handle", re.compile(r"(?:https?://hdl\.handle\.net/)([0-9.]+/\S+)", re.IGNORECASE)),
    ("URN", re.compile(r"(urn:[a-z0-9][a-z0-9-]{0,31}:\S+)", re.IGNORECASE)),
    ("URL", re.compile(r"(https?://[^\s\"<>]+)", re.IGNORECASE)),
)


def orcid(text: str) -> str:
    """The ORCID iD as ``0000-0002-1825-0097``, whose last digit is a check digit (ISO 7064, mod 11-2)."""
    found = _ORCID.fullmatch(text.strip())
    if found is None:
        raise ValueError("write an ORCID iD: four groups of four digits, for example 0000-0002-1825-0097")
    total = 0
    for digit in found[1].replace("-", "")[:-1]:
        total = (total + int(digit)) * 2 % 11
    check = "0123456789X"[(12 - total) % 11]
    if found[1][-1] != check:
        raise ValueError(
            f"{found[1]} is not an ORCID iD: after these digits its check digit would be {check}; look it up at orcid.org"
        )
    return found[1]


def ror(text: str) -> str:
    """The ROR id as ``https://ror.org/05dxps055``, whose last two digits are check digits (ISO 7064, mod 97-10)."""
    found = _ROR.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(
            "write a ROR id: https://ror.org/ and nine characters, the first of them 0, as ror.org shows it"
        )
    number = 0
    for character in found[1][:-2]:
        number = number * 32 + _CROCKFORD.index(character)
    check = 98 - number * 100 % 97
    if int(found[1][-2:]) != check:
        raise ValueError(f"{found[1]} is not a ROR id: its last two digits would be {check:02d}; look it up at ror.org")
    return f"https://ror.org/{found[1]}"


def doi(text: str) -> str:
    """The DOI as ``10.5281/zenodo.1234``, without a resolver's address."""
    found = _DOI.fullmatch(text.strip())
    if found is None:
        raise ValueError("write a DOI: 10., a number, a slash and a name, for example 10.5281/zenodo.1234")
    return found[1]


def license_id(text: str) -> str:
    """The id of a licence on the SPDX list, in its spelling: ``CC-BY-4.0``."""
    plain = text.strip()
    try:
        found = str(canonicalize_license_expression(plain))
    except InvalidLicenseExpression:
        found = ""
    if not found or " " in found or found.startswith("LicenseRef-") or found.endswith("+"):
        raise ValueError(
            f"{plain!r} is not a licence of the SPDX list; write its id (spdx.org/licenses), for example CC-BY-4.0 or CC0-1.0"
        )
    return found


def language(text: str) -> str:
    """The language tag in BCP 47 spelling: ``en``, ``pt-BR``, ``zh-Hant``."""
    found = _LANGUAGE.fullmatch(text.strip())
    if found is None:
        raise ValueError("write a language tag of BCP 47, for example en, es or pt-BR")
    parts = (found["language"].lower(), (found["script"] or "").title(), (found["region"] or "").upper())
    return "-".join(filter(None, parts)) + found["rest"].lower()


def day(text: str) -> str:
    """A year, month or day in ISO 8601, unchanged."""
    found = _DATE.fullmatch(text)
    try:
        assert found is not None
        date(int(found["year"]), int(found["month"] or 1), int(found["day"] or 1))
    except (AssertionError, ValueError) as error:
        raise ValueError(
            f"{text!r} is not a date; write a year, a month or a day: 2026, 2026-05 or 2026-05-14"
        ) from error
    return text


def kind_of(identifier: str) -> str:
    """The kind of an identifier: DOI, arXiv, Handle, URN, URL, ORCID, ROR or Other."""
    return next((kind for kind, pattern in _KINDS if pattern.fullmatch(identifier)), "Other")


def url(identifier: str) -> str | None:
    """The URL that resolves an identifier; None when there is none."""
    for kind, prefix in (("DOI", "https://doi.org/"), ("ORCID", "https://orcid.org/"), ("ROR", "https://ror.org/")):
        pattern = dict(_KINDS)[kind]
        if found := pattern.fullmatch(identifier):
            return f"{prefix}{found[1]}"
    if found := dict(_KINDS)["arXiv"].fullmatch(identifier):
        return f"https://arxiv.org/abs/{found[1]}"
    return identifier if identifier.startswith(("https://", "http://")) else None


def _text(longest: int, pattern: str, example: str, shortest: int = 1) -> Any:
    """A text field with a pattern for the API server. Check digits, and error messages, come from the functions above."""
    return Field(min_length=shortest, max_length=longest, examples=[example], json_schema_extra={"pattern": pattern})


Orcid = Annotated[
    str,
    _text(37, r"^(https?://orcid\.org/)?[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{3}[0-9X]$", "0000-0002-1825-0097", 19),
    AfterValidator(orcid),
]
Ror = Annotated[
    str, _text(25, r"^(https?://ror\.org/)?0[0-9a-z]{8}$", "https://ror.org/05dxps055", 9), AfterValidator(ror)
]
Doi = Annotated[
    str,
    _text(256, r"^(https?://(dx\.)?doi\.org/|doi:)?10\.[0-9]{4,9}/\S+$", "10.5281/zenodo.1234", 8),
    AfterValidator(doi),
]
LicenseId = Annotated[str, _text(64, r"^[A-Za-z0-9.+-]+$", "CC-BY-4.0"), AfterValidator(license_id)]
Language = Annotated[str, _text(35, r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", "en", 2), AfterValidator(language)]
Day = Annotated[str, _text(10, r"^[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?$", "2026-05-14", 4), AfterValidator(day)]
