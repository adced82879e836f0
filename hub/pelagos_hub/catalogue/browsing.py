"""Queries to the catalogue: search text, filters, order and page, all of them in the URL."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from pelagos_contract.text import shown
from pelagos_hub.catalogue.entries import Entry

PER_PAGE = 24
_CAPITAL = re.compile(r"(?<=[a-z])[A-Z]")
_MOST_WORDS, _LONGEST_QUERY, _MOST_CHOSEN, _MOST_VALUES = 10, 200, 20, 40


@dataclass(frozen=True)
class Facet:
    """A field to filter models by; ``values`` returns those of an entry."""

    key: str
    title: str
    values: Callable[[Entry], Sequence[str]]

    def words(self, value: str) -> str:
        """The display text of a value."""
        if self.key == "now":
            return "Now"
        return spaced(value) if self.key == "task" else shown(value)


def spaced(name: str) -> str:
    """The display text of an API name: OrientedDetection becomes oriented detection."""
    return shown(_CAPITAL.sub(lambda found: f" {found[0].lower()}", name))


def _one(text: str) -> tuple[str, ...]:
    return (text,) if text else ()


FACETS = (
    Facet("task", "Task", lambda entry: _one(entry.task)),
    Facet("taxon", "Taxon", lambda entry: entry.data.taxa),
    Facet("instrument", "Instrument", lambda entry: _one(entry.data.instrument)),
    Facet("license", "Licence", lambda entry: _one(entry.card.license or "")),
    Facet("family", "Family", lambda entry: _one(entry.family)),
    Facet("namespace", "Group", lambda entry: _one(entry.namespace)),
    Facet("now", "Can be tried", lambda entry: ("now",) if entry.is_ready else ()),
)
ORDERS: Mapping[str, str] = {"newest": "Newest first", "name": "By name", "proven": "Answers correctly for the longest"}


@dataclass(frozen=True)
class Query:
    """A query. ``chosen`` has values by facet: an entry fits when it has at least one chosen value of every chosen facet."""

    text: str = ""
    chosen: tuple[tuple[str, tuple[str, ...]], ...] = ()
    order: str = "newest"
    page: int = 1

    @classmethod
    def parse(cls, pairs: Iterable[tuple[str, str]]) -> Query:
        """Parse the pairs of a query string; unknown keys, and values beyond the limits, are ignored."""
        told: dict[str, list[str]] = {}
        for key, value in pairs:
            told.setdefault(key, []).append(value)
        chosen: list[tuple[str, tuple[str, ...]]] = []
        for facet in FACETS:
            values = list(dict.fromkeys(value[:300] for value in told.get(facet.key, ()) if value))
            # The limit holds for all facets together: when nothing fits, entries are counted again without each choice.
            values = values[: _MOST_CHOSEN - sum(len(each) for _, each in chosen)]
            if values:
                chosen.append((facet.key, tuple(values)))
        order = told.get("sort", [""])[-1]
        page = told.get("page", ["1"])[-1]
        return cls(
            text=told.get("q", [""])[-1].strip()[:_LONGEST_QUERY],
            chosen=tuple(chosen),
            order=order if order in ORDERS else "newest",
            page=max(1, int(page)) if page.isascii() and page.isdigit() and len(page) < 7 else 1,
        )

    def values(self, facet: str) -> tuple[str, ...]:
        """The chosen values of a facet."""
        return dict(self.chosen).get(facet, ())

    def toggled(self, facet: str, value: str) -> Query:
        """This query with the value added, or removed if it was chosen; at the first page."""
        before = self.values(facet)
        after = tuple(each for each in before if each != value) if value in before else (*before, value)
        others = tuple((key, values) for key, values in self.chosen if key != facet)
        return replace(self, chosen=(*others, (facet, after)) if after else others, page=1)

    def without_text(self) -> Query:
        """This query without its search text; at the first page."""
        return replace(self, text="", page=1)

    def at_page(self, page: int) -> Query:
        """This query at another page."""
        return replace(self, page=page)

    @property
    def is_narrowed(self) -> bool:
        """Whether the query has search text or filters."""
        return bool(self.text or self.chosen)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs of the query string, without defaults."""
        places = {facet.key: number for number, facet in enumerate(FACETS)}
        chosen = sorted(self.chosen, key=lambda item: places[item[0]])
        return [
            *([("q", self.text)] if self.text else []),
            *((key, value) for key, values in chosen for value in values),
            *([("sort", self.order)] if self.order != "newest" else []),
            *([("page", str(self.page))] if self.page > 1 else []),
        ]

    def address(self, path: str = "/") -> str:
        """The URL path and query string of this query."""
        return path + (f"?{urlencode(self.pairs)}" if self.pairs else "")


@dataclass(frozen=True)
class Choice:
    """A value of a facet: the number of models with it, and the URL that toggles it."""

    words: str
    count: int
    is_chosen: bool
    address: str


@dataclass(frozen=True)
class Way:
    """A filter whose removal gives results: its name, the number of results without it, and the URL."""

    words: str
    count: int
    address: str


@dataclass(frozen=True)
class Results:
    """One page of results; ``ways`` out are offered when there are none."""

    query: Query
    entries: tuple[Entry, ...]
    total: int
    known: int
    """Number of models without any filter."""
    pages: int
    facets: tuple[tuple[Facet, tuple[Choice, ...]], ...]
    ways: tuple[Way, ...]


def browse(entries: Sequence[Entry], query: Query, per_page: int = PER_PAGE) -> Results:
    """The requested page of fitting entries in order, with the choices of every facet."""
    found = _fitting(entries, query)
    pages = max(1, -(-len(found) // per_page))
    page = min(query.page, pages)
    first = (page - 1) * per_page
    ordered = _ordered(found, query.order)
    return Results(
        query=replace(query, page=page),
        entries=tuple(ordered[first : first + per_page]),
        total=len(found),
        known=len(entries),
        pages=pages,
        facets=tuple((facet, choices) for facet in FACETS if (choices := _choices(entries, query, facet))),
        ways=() if found else tuple(_ways(entries, query)),
    )


def _fitting(entries: Iterable[Entry], query: Query, but: str = "") -> list[Entry]:
    words = query.text.casefold().split()[:_MOST_WORDS]
    asked = [(facet, set(query.values(facet.key))) for facet in FACETS if facet.key != but and query.values(facet.key)]
    return [
        entry
        for entry in entries
        if not any(values.isdisjoint(facet.values(entry)) for facet, values in asked)
        and all(word in entry.text for word in words)
    ]


def _ordered(entries: list[Entry], order: str) -> list[Entry]:
    by_name = sorted(entries, key=lambda entry: (entry.title.casefold(), entry.namespace, entry.name))
    if order == "name":
        return by_name
    if order == "proven":
        return sorted(by_name, key=_since)
    return sorted(by_name, key=lambda entry: -(entry.created.timestamp() if entry.created else 0.0))


def _since(entry: Entry) -> float:
    """Unix time since when the model has answered correctly; infinity, which sorts last, when it does not."""
    proof = entry.proof
    return proof.since.timestamp() if proof.state == "Right" and proof.since is not None else math.inf


def _choices(entries: Sequence[Entry], query: Query, facet: Facet) -> tuple[Choice, ...]:
    """The choices of a facet, chosen ones first. Counts keep the filters of all other facets."""
    counts = Counter(value for entry in _fitting(entries, query, facet.key) for value in facet.values(entry))
    chosen = query.values(facet.key)
    there = {value for entry in entries for value in facet.values(entry)} | set(chosen)
    ranked = sorted(there, key=lambda value: (value not in chosen, -counts[value], value.casefold()))
    return tuple(
        Choice(facet.words(value), counts[value], value in chosen, query.toggled(facet.key, value).address())
        for value in ranked[:_MOST_VALUES]
    )


def _ways(entries: Sequence[Entry], query: Query) -> list[Way]:
    found = []
    if query.text:
        without = query.without_text()
        found.append(Way(f"the words “{shown(query.text)}”", len(_fitting(entries, without)), without.address()))
    for facet in FACETS:
        for value in query.values(facet.key):
            without = query.toggled(facet.key, value)
            found.append(
                Way(f"{facet.title}: {facet.words(value)}", len(_fitting(entries, without)), without.address())
            )
    return sorted((way for way in found if way.count), key=lambda way: -way.count)
