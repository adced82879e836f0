"""Resolves the classes of a collection to taxa, and rolls them up to a higher rank. Called by the step prepare.

Classes have the names that the rest of ``spec.labels`` gave them. Similar names never count as matches.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pelagos_contract.class_names import fits, is_new
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.metadata import Taxon
from pelagos_contract.taxonomy import (
    MOST_LISTED,
    WORMS,
    Lineage,
    Part,
    Replaced,
    RolledUp,
    Taxonomy,
    TaxonomyRecord,
    ToldTaxonomy,
    Unknown,
)
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.annotations.untrusted_input import format_names, is_seen, look, printable
from pelagos_pipelines.fetching import Client, Policy
from pelagos_pipelines.taxonomy import worms
from pelagos_pipelines.taxonomy.answers import FILE, Kept
from pelagos_pipelines.taxonomy.table import Table
from pelagos_pipelines.taxonomy.taxa import Answers, Match, Placed, Register, suggested

MOST_CLASSES = 2000
"""Most classes whose names are sent to a service."""
_TOLD = 5
_OPEN = re.compile(r"\s+(sp|spp)\.?$", re.IGNORECASE)
"""Suffix of a genus that means an unknown species of it."""


@dataclass(frozen=True)
class Naming:
    """``names`` maps each class to its new name, None for omitted ones; ``placed`` has the taxa by new names, ``before`` those by
    old names."""

    names: Mapping[str, str | None]
    placed: Mapping[str, Placed] = field(default_factory=dict)
    before: Mapping[str, Taxon] = field(default_factory=dict)
    told: ToldTaxonomy | None = None
    warnings: Sequence[str] = ()

    @property
    def changes(self) -> bool:
        """Whether any class is renamed or left out."""
        return any(old != new for old, new in self.names.items())

    def record(self, rolled: Sequence[RolledUp]) -> TaxonomyRecord | None:
        """The record for a version, with the rolled-up classes; None if no register was asked."""
        if self.told is None:
            return None
        told = self.told.model_copy(update={"rolled_up": list(rolled[:MOST_LISTED])})
        classes = [Lineage(name=name, taxon=one.taxon, above=list(one.above)) for name, one in self.placed.items()]
        return TaxonomyRecord(told=told, classes=classes)

    def rolled_up(self, counts: Mapping[str, int]) -> list[RolledUp]:
        """The rolled-up classes, with their parts and the numbers of annotations of these by old names."""
        made: dict[str, list[Part]] = {}
        for old, new in self.names.items():
            if new is not None and new in self.placed and old in self.before:
                made.setdefault(new, []).append(
                    Part(name=old, aphia_id=self.before[old].aphia_id, annotations=counts[old])
                )
        return [
            RolledUp(name=new, aphia_id=self.placed[new].taxon.aphia_id, of=parts)
            for new, parts in made.items()
            if [part.name for part in parts] != [new]
        ]


@contextmanager
def register_of(asked: Taxonomy, tree: SourceFiles, store: Path) -> Iterator[Register]:
    """The requested register. Answers of a service are kept in ``store``, even if it fails later.

    Raises RefusedError: see Table, and SOURCE_NOT_ALLOWED.
    """
    if asked.table is not None:
        yield Table(tree, asked.table)
        return
    url = asked.url or WORMS
    kept = Kept(store / FILE, url)
    with Client(Policy.read(), worms.FIELD, worms.PATIENCE) as client:
        try:
            yield worms.Worms(client, url, kept)
        finally:
            kept.write()


def named(classes: Sequence[str], asked: Taxonomy, register: Register, unused: Collection[str] = frozenset()) -> Naming:
    """Resolve and rename the classes. ``unused`` are declared classes without annotations, which the spec may name as well.

    Raises:
        RefusedError: LABELS_INVALID for names that no class has, and for classes that would share a name; TAXA_UNKNOWN if unknown
            classes must fail; TAXONOMY_UNAVAILABLE and others of the register.
    """
    ids = asked.ids or {}
    kept = [name for name in classes if any(fits(pattern, name) for pattern in asked.keep or ()) and name not in ids]
    _require_known(classes, asked, unused)
    apart = {*kept, *ids}
    plain = {name: _plain(name) for name in classes if name not in apart}
    if asked.table is None and len(plain) + len(ids) > MOST_CLASSES:
        words = f"{len(plain) + len(ids)} classes are more than the {MOST_CLASSES} that a service is asked for; name a table"
        raise _fault("labels.taxonomy", words)
    # A table has labels, which are the names of classes; a service only knows scientific names.
    names = {name: name for name in plain} if asked.table is not None else plain
    answers = register.answers(
        [name for name in names.values() if name], [ids[name] for name in classes if name in ids]
    )
    found, unknown = _found(classes, names, ids, answers)
    if unknown and asked.on_unknown == "Fail":
        first = "; ".join(_worded(each) for each in unknown[:_TOLD])
        more = f"; and {len(unknown) - _TOLD} more" if len(unknown) > _TOLD else ""
        raise RefusedError(
            Reason.TAXA_UNKNOWN,
            f"{len(unknown)} classes are no taxa of {register.source}: {first}{more}. Name their AphiaIDs in labels.taxonomy.ids,"
            " or the classes in labels.taxonomy.keep",
            "labels.taxonomy.onUnknown",
        )
    new, placed, above = _rolled(classes, found, asked)
    replaced = [
        Replaced(name=name, given=one.given, accepted=one.taxon.aphia_id, accepted_name=one.taxon.name)
        for name, one in found.items()
        if one.given is not None and one.taxon.aphia_id is not None
    ]
    told = ToldTaxonomy(
        authority=asked.authority,
        source=register.source,
        asked_at=None if answers.asked_at is None else _moment(answers.asked_at),
        taxa=len(placed),
        kept=kept[:MOST_LISTED],
        unknown=unknown[:MOST_LISTED],
        replaced=replaced[:MOST_LISTED],
        above=above[:MOST_LISTED],
    )
    warnings = (*answers.warnings, *_warnings(classes, asked, found, unknown, replaced, above))
    return Naming(new, placed, {name: one.taxon for name, one in found.items()}, told, warnings)


def _require_known(classes: Sequence[str], asked: Taxonomy, unused: Collection[str]) -> None:
    """Refuse names of the spec that no class has, since a misspelt name would be ignored silently."""
    faults, there = Faults(), {look(name): name for name in classes}
    for name in asked.ids or {}:
        if name not in classes and name not in unused:
            near = difflib.get_close_matches(look(name), there, 1)
            nearest = f" (nearest is {printable(there[near[0]])})" if near else ""
            faults.add(
                _fault(
                    "labels.taxonomy.ids",
                    f"there is no class {printable(name)} once the rest of labels is done{nearest}, but"
                    f" {format_names(classes)}; correct the name, or take it out",
                )
            )
    faults.refuse_any()


def _found(
    classes: Sequence[str], names: Mapping[str, str], ids: Mapping[str, int], answers: Answers
) -> tuple[dict[str, Placed], list[Unknown]]:
    """The taxa of classes by their names, and the classes without a taxon."""
    found, unknown = dict[str, Placed](), list[Unknown]()
    for name in classes:
        if name in ids:
            match = Match(ids[name], f"the register has no taxon {ids[name]}, or has withdrawn it")
        elif name in names:
            match = answers.matches.get(names[name]) or Match(why="it is no name of a taxon")
        else:
            continue
        placed = None if match.aphia_id is None else answers.placed.get(match.aphia_id)
        if placed is not None:
            found[name] = placed
        else:
            why = match.why or f"the register has withdrawn {match.aphia_id}"
            unknown.append(Unknown(name=name, why=why, suggestions=list(match.suggestions)))
    return found, unknown


def _rolled(
    classes: Sequence[str], found: Mapping[str, Placed], asked: Taxonomy
) -> tuple[dict[str, str | None], dict[str, Placed], list[str]]:
    """The new name of each class, the taxa by new names, and the classes without a taxon of the rank above them.

    Raises:
        RefusedError: LABELS_INVALID if classes with different meanings would share a name.
    """
    new, placed, above, faults = dict[str, str | None](), dict[str, Placed](), list[str](), Faults()
    for name in classes:
        one = found.get(name)
        at = one if one is None or asked.rank is None else _at(one, asked.rank)
        if one is None:
            new[name] = name
            continue
        if at is None:
            above.append(name)
        if at is None and asked.above == "Exclude":
            new[name] = None
            continue
        target, called = (one, name) if at is None or asked.rank is None else (at, at.taxon.name)
        if called != name and not (is_new(called) and is_seen(called)):
            words = f"{printable(name)} would become {printable(called)}, which is no name of a class: keep it as it is"
            faults.add(_fault("labels.taxonomy.rank", words))
        new[name] = called
        known = placed.setdefault(called, target)
        if known.taxon != target.taxon:
            faults.add(_fault("labels.taxonomy.rank", _two_taxa(called, known, target)))
    called_so: dict[str | None, list[str]] = {}
    for old in classes:
        called_so.setdefault(new[old], []).append(old)
    for name in classes:
        taken = [old for old in called_so.get(name, ()) if old != name]
        if taken and new[name] == name and name not in found:
            words = (
                f"{format_names(taken)} would become {printable(name)}, which is a class of another kind: name its AphiaID in"
                " labels.taxonomy.ids, or rename it"
            )
            faults.add(_fault("labels.taxonomy.rank", words))
    faults.refuse_any()
    return new, placed, above


def _at(one: Placed, rank: str) -> Placed | None:
    """The taxon of a rank that a taxon is or belongs to; None without one."""
    line = (*one.above, one.taxon)
    for place, taxon in enumerate(line):
        if taxon.rank == rank:
            return Placed(taxon, line[:place])
    return None


def _two_taxa(name: str, one: Placed, other: Placed) -> str:
    both = " and ".join(suggested(each.taxon.name, each.taxon.aphia_id, each.taxon.rank) for each in (one, other))
    return f"two taxa would be the class {printable(name)}, {printable(both)}: keep the classes of one by labels.taxonomy.keep"


def _plain(name: str) -> str:
    """The class name in the form of a register: tools write Gadus_morhua, and people Calanus sp."""
    return _OPEN.sub("", " ".join(name.replace("_", " ").split()))


def _warnings(
    classes: Sequence[str],
    asked: Taxonomy,
    found: Mapping[str, Placed],
    unknown: Sequence[Unknown],
    replaced: Sequence[Replaced],
    above: Sequence[str],
) -> Iterator[str]:
    idle = [name for name in asked.keep or () if not any(fits(name, one) for one in classes)]
    if idle:
        yield f"labels.taxonomy.keep has names that no class has: {format_names(idle)}"
    if unknown:
        first = "; ".join(_worded(each) for each in unknown[:_TOLD])
        more = f"; and {len(unknown) - _TOLD} more" if len(unknown) > _TOLD else ""
        yield f"{len(unknown)} classes are no taxa, and stay as they are: {first}{more}"
    for each in replaced[:_TOLD]:
        yield (
            f"{printable(each.name)} ({each.given}) is not accepted any more: {printable(each.accepted_name)} ({each.accepted})"
            " is taken for it"
        )
    if len(replaced) > _TOLD:
        yield f"{len(replaced) - _TOLD} more names are not accepted any more; status.taxonomy.replaced lists them"
    if above:
        done = "are left out" if asked.above == "Exclude" else "stay as they are"
        yield f"{len(above)} classes have no {asked.rank} above them, and {done}: {format_names(above)}"
    same: dict[int, list[str]] = {}
    for name, one in found.items():
        if one.taxon.aphia_id is not None:
            same.setdefault(one.taxon.aphia_id, []).append(name)
    for number, names in same.items():
        if len(names) > 1 and asked.rank is None:
            yield f"{format_names(names)} are one taxon ({number}): labels.merge makes one class of them"


def _worded(each: Unknown) -> str:
    like = f" (like it: {', '.join(each.suggestions)})" if each.suggestions else ""
    return f"{printable(each.name)}: {each.why}{like}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


def _fault(place: str, words: str) -> RefusedError:
    return RefusedError(Reason.LABELS_INVALID, f"{place}: {words}", place)
