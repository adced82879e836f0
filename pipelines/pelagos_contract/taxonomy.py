"""Classes as taxa of a register of names: ``spec.labels.taxonomy``, and the report about its resolution.

Names in it are those that classes have after the rest of ``spec.labels`` was applied: a renamed or merged class is one taxon.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from pelagos_contract.base import Strict
from pelagos_contract.class_names import Names, OldName, once
from pelagos_contract.metadata import Taxon
from pelagos_contract.remote_sources import SourceUrl
from pelagos_contract.values import RelativePath

Rank = Literal["Kingdom", "Phylum", "Class", "Order", "Family", "Genus", "Species"]
RANKS: tuple[Rank, ...] = ("Kingdom", "Phylum", "Class", "Order", "Family", "Genus", "Species")
"""The main ranks, highest first."""
WORMS = "https://www.marinespecies.org/rest"
"""REST service of the World Register of Marine Species."""
LARGEST_ID = 9_999_999
MOST_LISTED = 500
"""Most names of each kind in a result."""
MOST_SUGGESTIONS = 5
AphiaId = Annotated[int, Field(ge=1, le=LARGEST_ID)]


class Taxonomy(Strict):
    """The register of names in which classes are taxa, and the rank to roll them up to."""

    authority: Annotated[
        Literal["WoRMS"], Field(description="The register. WoRMS: the World Register of Marine Species.")
    ]
    ids: Annotated[
        Annotated[dict[OldName, AphiaId], Field(max_length=500), BeforeValidator(once)] | None,
        Field(
            description="AphiaIDs of classes whose names denote no taxon, or more than one: {cod: 126436}. Names are those "
            "after rename and merge. Default: all classes are looked up by their names."
        ),
    ] = None
    keep: Annotated[
        Annotated[Names, Field(max_length=300)] | None,
        Field(
            description="Classes that are not taxa, such as detritus, and stay as they are; * stands for any characters."
        ),
    ] = None
    rank: Annotated[
        Rank | None,
        Field(
            description="Classes below this rank become one class for each taxon of the rank, with its name: with Family, cod "
            "and haddock become Gadidae. Default: classes stay as they are."
        ),
    ] = None
    above: Annotated[
        Literal["Keep", "Exclude"] | None,
        Field(
            description="Classes that have no taxon of the rank above them: they have a higher rank, or the register places "
            "them in none. Keep: they stay as they are. Exclude: they are left out, as by labels.exclude. Default: Keep."
        ),
    ] = None
    on_unknown: Annotated[
        Literal["Warn", "Fail"] | None,
        Field(
            description="Classes that are not a taxon by their names, and are not in ids or keep. Warn: they stay as they are, "
            "and status.taxonomy.unknown lists them. Fail: the dataset is refused. Default: Warn."
        ),
    ] = None
    table: Annotated[
        RelativePath | None,
        Field(
            description="A CSV file in the source that says what the classes are, used instead of the service: the columns "
            "label, AphiaID, ScientificName, Rank, and Kingdom to Genus. AphiaID, and label or ScientificName, are required."
        ),
    ] = None
    url: Annotated[
        SourceUrl | None, Field(description=f"Address of the service, or of a mirror. Default: {WORMS}.")
    ] = None

    @field_validator("ids", "keep")
    @classmethod
    def _of_nothing(cls, names: Any) -> Any:
        """An empty value has the same digest as an absent one."""
        return names or None

    @field_validator("above", "on_unknown")
    @classmethod
    def _of_defaults(cls, choice: str | None) -> str | None:
        """An explicit default has the same digest as an absent value."""
        return None if choice in {"Keep", "Warn"} else choice


def faults(taxonomy: Taxonomy) -> Iterator[tuple[str, str]]:
    """Contradictions in the spec that do not depend on the source: yields the field, and a message with what to do."""
    ids, keep = taxonomy.ids or {}, taxonomy.keep or []
    if both := sorted({*ids} & {*keep}):
        yield "labels.taxonomy.keep", f"{both[0]} is in labels.taxonomy.ids, too: remove it from one of them"
    if taxonomy.above is not None and taxonomy.rank is None:
        yield (
            "labels.taxonomy.above",
            "it applies to labels.taxonomy.rank, which is not set: set that, or remove this",
        )
    if taxonomy.table is not None and taxonomy.url is not None:
        yield "labels.taxonomy.url", "labels.taxonomy.table replaces the service: remove one of them"


def lsid(aphia_id: int) -> str:
    """The globally unique identifier (LSID) of a WoRMS taxon."""
    return f"urn:lsid:marinespecies.org:taxname:{aphia_id}"


class Unknown(Strict):
    """A class that is no taxon."""

    name: Annotated[str, Field(description="Name of the class.")]
    why: Annotated[str, Field(description="Why it is not a taxon.")]
    suggestions: Annotated[
        list[str],
        Field(
            description="Taxa with similar names, with their AphiaIDs. None is used unless labels.taxonomy.ids says so."
        ),
    ] = []


class Replaced(Strict):
    """A class whose name, or AphiaID, is not accepted any more."""

    name: Annotated[str, Field(description="Name of the class.")]
    given: Annotated[int, Field(description="AphiaID of its name, or of labels.taxonomy.ids.")]
    accepted: Annotated[int, Field(description="AphiaID of the accepted taxon, which is used.")]
    accepted_name: Annotated[str, Field(description="Name of the accepted taxon.")]


class Part(Strict):
    """A class that became a part of another."""

    name: Annotated[str, Field(description="Name that it had.")]
    aphia_id: Annotated[int | None, Field(description="AphiaID of its taxon.")] = None
    annotations: Annotated[int, Field(description="Its annotations in the source.")] = 0


class RolledUp(Strict):
    """A class that is a taxon of labels.taxonomy.rank."""

    name: Annotated[str, Field(description="Name of the taxon, and of the class.")]
    aphia_id: Annotated[int | None, Field(description="Its AphiaID.")] = None
    of: Annotated[list[Part], Field(description="The classes that it is made of.")]


class ToldTaxonomy(Strict):
    """What a register of names returned for classes."""

    authority: Annotated[str, Field(description="The register.")]
    source: Annotated[
        str, Field(description="Address of the service, or path of the table in the source, that was used.")
    ]
    asked_at: Annotated[
        str | None,
        Field(
            description="When the service gave the oldest of its answers; they are kept for 30 days.",
            json_schema_extra={"format": "date-time"},
        ),
    ] = None
    taxa: Annotated[int, Field(description="Classes of the version that are taxa.")] = 0
    kept: Annotated[list[str], Field(description="Classes that labels.taxonomy.keep leaves as they are.")] = []
    unknown: Annotated[list[Unknown], Field(description="Classes that are not taxa, and stay as they are.")] = []
    replaced: Annotated[
        list[Replaced], Field(description="Classes whose names are no longer accepted, with the accepted names.")
    ] = []
    above: Annotated[
        list[str],
        Field(
            description="Classes without a taxon of labels.taxonomy.rank above them, handled by labels.taxonomy.above."
        ),
    ] = []
    rolled_up: Annotated[list[RolledUp], Field(description="Classes that were made of classes below the rank.")] = []


class Lineage(Strict):
    """A class of a version as a taxon, with the taxa of the main ranks above it, the highest first."""

    name: str
    taxon: Taxon
    above: list[Taxon] = []

    def ranked(self, rank: Rank) -> str | None:
        """The name of the taxon of this rank that the class is or belongs to; None where there is none."""
        return next((taxon.name for taxon in (*self.above, self.taxon) if taxon.rank == rank), None)

    @property
    def parent(self) -> str | None:
        """The name of the nearest taxon of a main rank above the class; None without one."""
        return next((taxon.name for taxon in reversed(self.above) if taxon.rank in RANKS), None)


class TaxonomyRecord(Strict):
    """``taxonomy.json`` of a version: what was resolved, when, and by whom. It is not part of the version's digest."""

    schema_version: Literal[1] = 1
    told: ToldTaxonomy
    classes: list[Lineage] = []

    def within(self, names: Collection[str]) -> TaxonomyRecord:
        """The record of these classes only, in their order."""
        known = {each.name: each for each in self.classes}
        left = [known[name] for name in names if name in known]
        return self.model_copy(update={"classes": left, "told": self.told.model_copy(update={"taxa": len(left)})})

    def taxa(self) -> dict[str, Taxon]:
        """The taxon of each class, by the class's name."""
        return {each.name: each.taxon for each in self.classes}
