"""The REST service of the World Register of Marine Species, for looking up taxa by names and AphiaIDs.

Made from its published description (marinespecies.org/rest: the calls, the fields of AphiaRecord and Classification, at most 50
names or AphiaIDs in a call, HTTP 204 where nothing is found) and from recorded answers in the tests of the R package worrms.
AphiaIDs are the register's own, except those from a million up.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from web_servers import Reply, Request

BASE = "/rest"
AT_ONCE = 50


@dataclass(frozen=True)
class Entry:
    """A taxon or one of its names. ``parent`` 0: the root. ``valid`` is the accepted taxon where this name is another one."""

    name: str
    rank: str
    parent: int
    status: str = "accepted"
    valid: int | None = None


ENTRIES: dict[int, Entry] = {
    1: Entry("Biota", "Superdomain", 0),
    2: Entry("Animalia", "Kingdom", 1),
    3: Entry("Plantae", "Kingdom", 1),
    1821: Entry("Chordata", "Phylum", 2),
    146419: Entry("Vertebrata", "Subphylum", 1821),
    10194: Entry("Actinopterygii", "Class", 146419),
    10313: Entry("Gadiformes", "Order", 10194),
    125469: Entry("Gadidae", "Family", 10313),
    125732: Entry("Gadus", "Genus", 125469),
    126436: Entry("Gadus morhua", "Species", 125732),
    126437: Entry("Melanogrammus aeglefinus", "Species", 125469),
    125579: Entry("Pleuronectidae", "Family", 10194),
    127143: Entry("Pleuronectes platessa", "Species", 125579),
    127139: Entry("Limanda limanda", "Species", 125579),
    126846: Entry("Coryphaena hippurus", "Species", 10194),
    302815: Entry("Coryphaena immaculata", "Species", 10194, "unaccepted", 126846),
    1000001: Entry("Ficta ambigua", "Species", 10194),
    1000002: Entry("Ficta ambigua", "Species", 3),
    1000003: Entry("Ficta deleta", "Species", 10194, "deleted"),
    1000004: Entry("Tracheophyta", "Phylum (Division)", 3),
}


@dataclass
class Worms:
    """The service. ``entries`` may be changed; ``answers`` replace the answers of calls, by a part of their path."""

    entries: dict[int, Entry] = field(default_factory=lambda: dict(ENTRIES))
    answers: dict[str, Any] = field(default_factory=dict)

    def __call__(self, request: Request) -> Reply:
        """Answer one request."""
        call = request.path.removeprefix(f"{BASE}/")
        for part, answer in self.answers.items():
            if part in call:
                return Reply(answer)
        if call == "AphiaRecordsByMatchNames":
            assert request.query["marine_only"] == "false"
            names = request.lists["scientificnames[]"]
            return _few(names) or _found([self.matches(name) for name in names])
        if call == "AphiaRecordsByAphiaIDs":
            ids = list(map(int, request.lists["aphiaids[]"]))
            return _few(ids) or _found([self.record(each) for each in ids if each in self.entries])
        if call.startswith("AphiaClassificationByAphiaID/"):
            number = int(call.rpartition("/")[2])
            return _found(self.classification(number) if number in self.entries else None)
        return Reply({"code": 404, "success": False, "errors": ["no such call"]}, 404)

    def record(self, number: int, match: str = "exact") -> dict[str, Any]:
        """The AphiaRecord of a number."""
        one = self.entries[number]
        valid = one.valid or (number if one.status == "accepted" else None)
        ranks = {each.rank.lower(): each.name for _, each in self.line(number)}
        return {
            "AphiaID": number,
            "url": f"https://www.marinespecies.org/aphia.php?p=taxdetails&id={number}",
            "scientificname": one.name,
            "authority": "Linnaeus, 1758",
            "status": one.status,
            "unacceptreason": None,
            "taxonRankID": 220,
            "rank": one.rank,
            "valid_AphiaID": valid,
            "valid_name": self.entries[valid].name if valid else None,
            "valid_authority": "Linnaeus, 1758",
            "parentNameUsageID": one.parent,
            **{rank: ranks.get(rank) for rank in ("kingdom", "phylum", "class", "order", "family", "genus")},
            "citation": "Accessed through: World Register of Marine Species",
            "lsid": f"urn:lsid:marinespecies.org:taxname:{number}",
            "isMarine": 1,
            "isBrackish": None,
            "isFreshwater": 0,
            "isTerrestrial": 0,
            "isExtinct": None,
            "match_type": match,
            "modified": "2008-01-15T18:27:08.177Z",
        }

    def matches(self, name: str) -> list[dict[str, Any]]:
        """Records with exactly that name; otherwise those with a similar one."""
        bare = re.sub(r"\s+[(A-Z].*", "", name)  # without the authority
        exact = [number for number, one in self.entries.items() if one.name.casefold() == bare.casefold()]
        if exact:
            return [self.record(number) for number in exact if self.entries[number].status != "deleted"]
        near = difflib.get_close_matches(bare, [one.name for one in self.entries.values()], 1, 0.85)
        return [self.record(number, "near_2") for number, one in self.entries.items() if one.name in near]

    def line(self, number: int) -> Iterator[tuple[int, Entry]]:
        """The taxon and all taxa above it."""
        while number:
            yield number, self.entries[number]
            number = self.entries[number].parent

    def classification(self, number: int) -> Any:
        """A Classification: nested from the root down, each taxon containing the one below it."""
        child = None
        for each, one in self.line(number):
            child = {"AphiaID": each, "rank": one.rank, "scientificname": one.name, "child": child}
        return child


def _few(asked: list[Any]) -> Reply | None:
    told = {"code": 400, "success": False, "errors": ["limited to 50"]}
    return Reply(told, 400) if len(asked) > AT_ONCE else None


def _found(document: Any) -> Reply:
    return Reply(document) if document and any(document) else Reply(b"", 204)
