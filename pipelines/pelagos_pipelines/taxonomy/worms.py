"""The World Register of Marine Species by its REST service: looks up accepted taxa, with those above them, by name or AphiaID.

Source: marinespecies.org/rest, the calls AphiaRecordsByMatchNames (TAXAMATCH of Tony Rees; at most 50 names),
AphiaRecordsByAphiaIDs (at most 50) and AphiaClassificationByAphiaID; HTTP 204 says that nothing was found.

Requests are sequential with pauses. Answers younger than `answers.FRESH` are not requested again; when the service does not
answer, or answers invalidly, older answers are used, which is reported. Only exactly spelled names match; similar ones are
suggestions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, TypeVar
from urllib.parse import quote_plus

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.metadata import Line, Taxon
from pelagos_contract.taxonomy import LARGEST_ID, MOST_SUGGESTIONS
from pelagos_contract.text import shown
from pelagos_pipelines.annotations.untrusted_input import format_names
from pelagos_pipelines.fetching import Client, FetchError, Patience
from pelagos_pipelines.sources.services import Told, address
from pelagos_pipelines.taxonomy.answers import Kept
from pelagos_pipelines.taxonomy.taxa import Answers, Match, Placed, suggested

FIELD = "labels.taxonomy.url"
PATIENCE = Patience(total=3600.0, tries=4)
"""Retry limits of a step: many classes take many requests, but an outage is detected within a minute."""
PAUSE = 0.5
"""Seconds between two requests."""
AT_ONCE = 50
"""Most names, or AphiaIDs, in one request."""
_LONGEST_QUERY = 4000
_DEEPEST = 100
"""Most ranks above a taxon."""
_MOST_HOPS = 5
"""Most steps from a name that is not accepted to another until one is accepted."""
_MOST_MATCHES = 100
_AUTHORITY = re.compile(r"(\s+(\(|[^\W\d_a-zß-ÿ]).*)?")
"""The text that may follow a name: nothing, or its authority, which begins with a capital letter or a parenthesis."""
_WITHDRAWN = frozenset({"deleted", "quarantined"})
_NAMES, _RECORDS, _CLASSIFICATIONS = "names", "records", "classifications"

_Id = Annotated[int, Field(ge=1, le=LARGEST_ID)]
_Text = Annotated[str | None, Field(max_length=500)]
_Name = Annotated[Line, BeforeValidator(lambda name: " ".join(name.split()) if isinstance(name, str) else name)]
"""A name with all kinds of spaces, which editors of the register paste, as plain spaces."""
_Asked = TypeVar("_Asked", str, int)


class _Strict(Told):
    """Without conversion between numbers and text."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Record(_Strict):
    """The read fields of an AphiaRecord."""

    AphiaID: _Id
    scientificname: _Name
    status: _Text = None
    rank: _Text = None
    valid_AphiaID: _Id | None = None  # noqa: N815 - the service's own name
    kingdom: _Text = None
    match_type: _Text = None

    @property
    def accepted(self) -> int | None:
        """The AphiaID of the accepted taxon, which may be its own; None for a record that was withdrawn without replacement."""
        if self.status in _WITHDRAWN and self.valid_AphiaID in {None, self.AphiaID}:
            return None
        return self.valid_AphiaID or self.AphiaID


class _Step(_Strict):
    """A taxon in a classification."""

    AphiaID: _Id
    rank: _Text = None
    scientificname: _Name


_Matches = Annotated[list[Record], Field(max_length=_MOST_MATCHES)]
_Steps = Annotated[list[_Step], Field(min_length=1, max_length=_DEEPEST)]
_KINDS: Mapping[str, TypeAdapter[Any]] = {
    _NAMES: TypeAdapter(_Matches),
    _RECORDS: TypeAdapter(Record | None),
    _CLASSIFICATIONS: TypeAdapter(_Steps | None),
}
"""Types of the cached answers, for one name or AphiaID each."""


class _AwayError(Exception):
    """The service does not answer, or its answer is invalid."""


class Worms:
    """The service at ``url``, with the cache of its answers."""

    def __init__(self, client: Client, url: str, kept: Kept) -> None:
        """Make no request yet."""
        self._client, self._url, self._kept = client, url.rstrip("/"), kept
        self._asked, self._stale, self._oldest = 0, 0, float("inf")
        self._away: _AwayError | None = None

    @property
    def source(self) -> str:
        """The address of the service."""
        return self._url

    def answers(self, names: Iterable[str], ids: Iterable[int]) -> Answers:
        """The accepted taxa and the matches of names, from the cache or the service; see Register."""
        matches = {name: _match(name, found) for name, found in self._said(_NAMES, names, self._ask_names).items()}
        wanted = {*ids, *(each.aphia_id for each in matches.values() if each.aphia_id is not None)}
        accepted = self._accepted(wanted)
        placed_in = self._said(_CLASSIFICATIONS, {one.AphiaID for one in accepted.values()}, self._ask_classifications)
        placed = {
            asked: _placed(steps, asked)
            for asked, one in accepted.items()
            if (steps := placed_in[one.AphiaID]) is not None
        }
        warnings = []
        if self._away is not None:
            warnings.append(
                f"{self._url} does not answer ({self._away}): {self._stale} answers older than 30 days were used, and will be"
                " asked for again"
            )
        return Answers(matches, placed, None if self._oldest == float("inf") else self._oldest, warnings)

    def _accepted(self, ids: Iterable[int]) -> dict[int, Record]:
        """The records of the accepted taxa of AphiaIDs, without missing and withdrawn ones."""
        now, found = {each: each for each in ids}, dict[int, Record]()
        for _ in range(_MOST_HOPS):
            records = self._said(_RECORDS, now.values(), self._ask_records)
            following = dict[int, int]()
            for asked, at in now.items():
                record: Record | None = records[at]
                if record is not None and record.accepted == at:
                    found[asked] = record
                elif record is not None and record.accepted is not None:
                    following[asked] = record.accepted
            now = following
            if not now:
                return found
        raise self._client.invalid(self._url, f"leads from AphiaID {min(now)} to another over more than {_MOST_HOPS}")

    # --- requests

    def _said(
        self, kind: str, asked: Iterable[_Asked], ask: Callable[[Sequence[_Asked]], Iterator[tuple[_Asked, Any]]]
    ) -> dict[_Asked, Any]:
        """The answer for each, from the cache or from the service.

        Raises:
            RefusedError: TAXONOMY_UNAVAILABLE, SOURCE_NOT_ALLOWED.
        """
        listed = sorted(set(asked))
        known: dict[_Asked, tuple[float, Any]] = {
            each: said for each in listed if (said := self._recalled(kind, str(each))) is not None
        }
        lacking = [each for each in listed if each not in known or not self._kept.is_fresh(known[each][0])]
        for part in _parts(lacking):
            if self._away is not None:
                break
            try:
                for each, answer in ask(part):
                    kept = _KINDS[kind].dump_python(answer, mode="json")
                    known[each] = self._kept.put(kind, str(each), kept), answer
            except _AwayError as error:
                self._away = error
        missing = [each for each in listed if each not in known]
        if missing:
            raise RefusedError(
                Reason.TAXONOMY_UNAVAILABLE,
                f"{self._url} does not answer ({self._away}), and has said nothing yet of {len(missing)} {kind}:"
                f" {format_names(map(str, missing))}. It is asked again in 10 minutes; or say in labels.taxonomy.table what"
                " classes are",
                FIELD,
            )
        self._stale += sum(not self._kept.is_fresh(at) for at, _ in known.values())
        self._oldest = min([self._oldest, *(at for at, _ in known.values())])
        return {each: answer for each, (_, answer) in known.items()}

    def _recalled(self, kind: str, asked: str) -> tuple[float, Any] | None:
        """The cached answer with its time, if it is valid."""
        said = self._kept.get(kind, asked)
        if said is not None:
            with suppress(ValidationError):
                return said[0], _KINDS[kind].validate_python(said[1])
        return None

    def _ask_names(self, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
        call = "AphiaRecordsByMatchNames"
        found = self._get(call, {"scientificnames[]": list(names), "marine_only": "false"})
        lists = [None] * len(names) if found is None else found
        if not isinstance(lists, list) or len(lists) != len(names):
            raise _odd(call, f"no list for each of {len(names)} names")
        for name, records in zip(names, lists, strict=True):
            listed = [one for one in records if one is not None] if isinstance(records, list) else records or []
            yield name, _checked(call, _NAMES, listed)

    def _ask_records(self, ids: Sequence[int]) -> Iterator[tuple[int, Any]]:
        call = "AphiaRecordsByAphiaIDs"
        records = {one.AphiaID: one for one in _checked(call, _NAMES, self._get(call, {"aphiaids[]": list(ids)}) or [])}
        if strange := sorted({*records} - {*ids}):
            raise _odd(call, f"the taxon {strange[0]}, for which nobody asked")
        for each in ids:
            yield each, records.get(each)

    def _ask_classifications(self, ids: Sequence[int]) -> Iterator[tuple[int, Any]]:
        for each in ids:
            call = f"AphiaClassificationByAphiaID/{each}"
            at, steps = self._get(call, {}), list[Any]()
            while isinstance(at, dict) and len(steps) <= _DEEPEST:
                steps.append(at)
                at = at.get("child")
            found = _checked(call, _CLASSIFICATIONS, steps or None if at is None else at)
            if found is not None and found[-1].AphiaID != each:
                raise _odd(call, f"a classification that ends at {found[-1].AphiaID}")
            self._require_one_kingdom(call, each, found or [])
            yield each, found

    def _require_one_kingdom(self, call: str, aphia_id: int, steps: Sequence[_Step]) -> None:
        """Require that a classification has the same kingdom as the taxon's record; otherwise it is of a different taxon."""
        said = self._recalled(_RECORDS, str(aphia_id))
        kingdom = said[1].kingdom if said is not None and said[1] is not None else None
        placed = next((step.scientificname for step in steps if _rank(step.rank) == "Kingdom"), None)
        if kingdom and placed and kingdom != placed:
            raise _odd(call, f"the kingdom {shown(placed)[:100]} of a taxon of {shown(kingdom)[:100]}")

    def _get(self, call: str, params: Mapping[str, Any]) -> Any:
        """The document; None if nothing was found. Raises _AwayError, and RefusedError (SOURCE_NOT_ALLOWED)."""
        try:
            if self._asked:
                self._client.deadline.pause(PAUSE, f"asking {self._url}")
            self._asked += 1
            answer = self._client.answer(
                address(self._url, f"/{call}"), params=params, headers={"Accept": "application/json"}
            )
            # Older servers return an empty document if nothing was found.
            return None if answer.status == 204 or not answer.content.strip() else self._client.parsed(answer)
        except FetchError as error:
            raise _AwayError(shown(str(error))) from error
        except RefusedError as error:
            if error.failure.reason == Reason.SOURCE_NOT_ALLOWED:
                raise
            raise _AwayError(error.failure.message) from error


def _parts(asked: Sequence[_Asked]) -> Iterator[list[_Asked]]:
    """Divide into parts that fit into one request by number and by length of the URL."""
    part, length = list[_Asked](), 0
    for each in asked:
        size = len(quote_plus(str(each))) + len("scientificnames%5B%5D=&")
        if part and (len(part) == AT_ONCE or length + size > _LONGEST_QUERY):
            yield part
            part, length = [], 0
        part.append(each)
        length += size
    if part:
        yield part


def _match(name: str, records: Sequence[Record]) -> Match:
    """The taxon that a name means, among the records that the service found for it."""
    ordered = sorted(records, key=lambda one: one.status != "accepted")
    like = dict.fromkeys(shown(suggested(one.scientificname, one.AphiaID, one.rank, one.kingdom)) for one in ordered)
    suggestions = list(like)[:MOST_SUGGESTIONS]
    exact = [one for one in ordered if one.match_type == "exact" and one.accepted and _is_called(one, name)]
    exact = [one for one in exact if one.status == "accepted"] or exact
    taxa = {one.accepted for one in exact}
    if len(taxa) == 1:
        return Match(aphia_id=exact[0].AphiaID)
    return Match(why=f"{len(taxa)} taxa are called so" if taxa else "no taxon is called so", suggestions=suggestions)


def _is_called(one: Record, name: str) -> bool:
    """Whether a record has that name, which an authority may follow: Gadus is not Gadus morhua."""
    length = len(one.scientificname)
    start, rest = name[:length], name[length:]
    return start.casefold() == one.scientificname.casefold() and _AUTHORITY.fullmatch(rest) is not None


def _placed(steps: Sequence[_Step], asked: int) -> Placed:
    *above, last = [Taxon(name=step.scientificname, rank=_rank(step.rank), aphia_id=step.AphiaID) for step in steps]
    return Placed(last, tuple(above), asked if asked != last.aphia_id else None)


def _rank(rank: str | None) -> str | None:
    """The rank by the name that it has for animals: for plants the register has Phylum (Division)."""
    plain = (rank or "").split(" (", 1)[0].strip()[:100]
    return plain if plain.isprintable() and plain else None


def _checked(call: str, kind: str, document: Any) -> Any:
    try:
        return _KINDS[kind].validate_python(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise _odd(call, f"another document ({shown(place)[:100]}: {shown(first['msg'])[:200]})") from None


def _odd(call: str, what: str) -> _AwayError:
    return _AwayError(f"{call.partition('/')[0]} answers with {what}; check {FIELD}")
