"""The description of a dataset by people: ``spec.metadata``, from which all metadata documents are written.

It is not part of a version's recipe: correcting a name or adding a keyword creates no new version, and nothing is prepared or
trained again. It is recorded with the version, and with its publication.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator

from pelagos_contract import identifiers
from pelagos_contract.base import Strict
from pelagos_contract.identifiers import Day, Doi, Language, LicenseId, Orcid, Ror

ContributorRole = Literal[
    "ContactPerson", "DataCollector", "DataCurator", "DataManager", "Editor", "HostingInstitution", "ProjectLeader",
    "ProjectManager", "ProjectMember", "Researcher", "RightsHolder", "Sponsor", "Supervisor", "Other",
]  # fmt: skip
"""Values of DataCite's contributorType."""
Relation = Literal[
    "Cites", "IsCitedBy", "IsSupplementTo", "IsSupplementedBy", "IsContinuedBy", "Continues", "IsDescribedBy", "Describes",
    "HasVersion", "IsVersionOf", "IsNewVersionOf", "IsPreviousVersionOf", "IsPartOf", "HasPart", "IsReferencedBy", "References",
    "IsDocumentedBy", "Documents", "IsDerivedFrom", "IsSourceOf", "IsIdenticalTo", "IsRequiredBy", "Requires", "Obsoletes",
    "IsObsoletedBy", "IsCollectedBy", "Collects",
]  # fmt: skip
"""Values of DataCite's relationType."""


def _without_defaults(schema: dict[str, Any]) -> None:
    """Remove defaults from the schema, so that the API server does not write empty values into objects."""
    for field in schema.get("properties", {}).values():
        field.pop("default", None)


class Described(Strict):
    """A part of the metadata."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    def written(self) -> dict[str, Any]:
        """The document as in YAML and JSON, without fields that have their defaults."""
        return self.model_dump(by_alias=True, mode="json", exclude_defaults=True)


def _line(text: str) -> str:
    """Validate a text on one line without invisible characters."""
    plain = text.strip()
    if not plain or not all(character.isprintable() for character in plain):
        raise ValueError("write text on one line, without control characters")
    return plain


def _within(limit: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        if abs(float(text)) > limit:
            raise ValueError(f"{text} must be from -{limit} to {limit} degrees")
        return text

    return check


def _prose(text: str) -> str:
    """Validate a text of several lines without characters that XML forbids."""
    if not all(character.isprintable() or character in "\n\t" for character in text):
        raise ValueError("write text without control characters; line feeds and tabs are allowed")
    return text


Prose = Annotated[str, Field(min_length=1, max_length=20_000), AfterValidator(_prose)]
Line = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_line)]
Short = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_line)]
_NUMBER = r"^-?[0-9]{1,5}(\.[0-9]{1,10})?$"
Latitude = Annotated[str, Field(pattern=_NUMBER, max_length=17, examples=["36.72"]), AfterValidator(_within(90))]
Longitude = Annotated[str, Field(pattern=_NUMBER, max_length=17, examples=["-4.42"]), AfterValidator(_within(180))]
Meters = Annotated[str, Field(pattern=_NUMBER, max_length=17, examples=["12.5"])]
Address = Annotated[str, Field(pattern=r"^https?://[!-~]+$", min_length=10, max_length=2048)]
Email = Annotated[str, Field(pattern=r"^[^@\s<>]+@[^@\s<>]+\.[^@\s<>]+$", max_length=254)]
Identifier = Annotated[str, Field(pattern=r"^\S+$", min_length=3, max_length=2048)]


class Affiliation(Described):
    """An organisation that somebody belongs to."""

    name: Annotated[Line, Field(description="Name of the organisation.")]
    ror: Annotated[Ror | None, Field(description="Its id at ror.org.")] = None


class Party(Described):
    """A person or an organisation."""

    name: Annotated[Line, Field(description="A person as Family, Given; an organisation as it is called.")]
    kind: Annotated[
        Literal["Person", "Organization"] | None, Field(description="Person or Organization. Default: Person.")
    ] = None
    orcid: Annotated[Orcid | None, Field(description="ORCID iD of a person; its check digit is checked.")] = None
    ror: Annotated[Ror | None, Field(description="Id of an organisation at ror.org.")] = None
    affiliations: Annotated[list[Affiliation], Field(max_length=10, description="Where a person works.")] = []

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.is_organization and (self.orcid or self.affiliations):
            raise ValueError("an organisation has ror, and neither orcid nor affiliations; or write kind: Person")
        if not self.is_organization and self.ror:
            raise ValueError(
                "a person has orcid, and the ror of their employer belongs in affiliations; or write kind: Organization"
            )
        return self

    @property
    def is_organization(self) -> bool:
        """Whether it is an organisation, not a person."""
        return self.kind == "Organization"

    @property
    def family_and_given(self) -> tuple[str, str]:
        """Family and given name of a person; the given name is empty when the name has no comma."""
        family, _, given = self.name.partition(",")
        return family.strip(), given.strip()


class Contributor(Party):
    """Somebody who had a part in it, beside its creators."""

    role: Annotated[ContributorRole, Field(description="What they did, as DataCite calls it.")]


class Contact(Described):
    """Whom to ask about it."""

    name: Annotated[Line, Field(description="A person, as Family, Given, or a service.")]
    email: Annotated[Email | None, Field(description="Their address. It is published.")] = None
    url: Annotated[Address | None, Field(description="A page by which they can be reached.")] = None
    orcid: Annotated[Orcid | None, Field(description="ORCID iD of a person.")] = None


class Subject(Described):
    """A term of a vocabulary."""

    term: Annotated[Line, Field(description="The term.")]
    uri: Annotated[
        Address, Field(description="Its address, for example of the NERC Vocabulary Server, GEMET or AGROVOC.")
    ]
    scheme: Annotated[Line | None, Field(description="Name of the vocabulary.")] = None


class Funding(Described):
    """Who funded it."""

    funder: Annotated[Line, Field(description="Name of the funder.")]
    ror: Annotated[Ror | None, Field(description="Its id at ror.org.")] = None
    award: Annotated[Short | None, Field(description="Number of the grant.")] = None
    title: Annotated[Line | None, Field(description="Title of the grant, or name of the project.")] = None
    url: Annotated[Address | None, Field(description="Page of the grant.")] = None


class Related(Described):
    """Another work."""

    identifier: Annotated[Identifier, Field(description="Its DOI, address, handle or URN.")]
    relation: Annotated[Relation, Field(description="The relation of this dataset to it, as DataCite calls it.")]
    kind: Annotated[
        Literal["Dataset", "Image", "JournalArticle", "Software", "Report", "Text", "Other"] | None,
        Field(description="What it is."),
    ] = None

    @property
    def plain(self) -> str:
        """The identifier; a DOI without a resolver's address."""
        return identifiers.doi(self.identifier) if self.type == "DOI" else self.identifier

    @property
    def type(self) -> str:
        """The kind of the identifier, see identifiers.kind_of."""
        return identifiers.kind_of(self.identifier)


class Area(Described):
    """Where images were taken: a point, or a box, and how deep."""

    place: Annotated[Line | None, Field(description="Name of the place.")] = None
    uri: Annotated[Address | None, Field(description="Its address in a gazetteer, such as marineregions.org.")] = None
    south: Annotated[Latitude, Field(description="Southern edge in degrees of WGS 84.")]
    west: Annotated[Longitude, Field(description="Western edge; of a box across 180 degrees it is greater than east.")]
    north: Annotated[Latitude | None, Field(description="Northern edge. Default: south, for a point.")] = None
    east: Annotated[Longitude | None, Field(description="Eastern edge. Default: west, for a point.")] = None
    min_depth: Annotated[Meters | None, Field(description="Least depth below the surface in metres.")] = None
    max_depth: Annotated[Meters | None, Field(description="Greatest depth in metres.")] = None

    @model_validator(mode="after")
    def _has_edges(self) -> Self:
        if (self.north is None) != (self.east is None):
            raise ValueError("north and east go together: set both for a box, none for a point")
        south, _, north, _ = self.box
        if north < south:
            raise ValueError("north is south of south: swap them")
        if self.min_depth is not None and self.max_depth is not None and float(self.max_depth) < float(self.min_depth):
            raise ValueError("maxDepth is above minDepth: swap them; depths are counted downward")
        return self

    @property
    def is_point(self) -> bool:
        """Whether it is a point, not a box."""
        return self.north is None

    @property
    def box(self) -> tuple[float, float, float, float]:
        """South, west, north and east in degrees."""
        return float(self.south), float(self.west), float(self.north or self.south), float(self.east or self.west)


class Period(Described):
    """When images were taken."""

    start: Annotated[Day, Field(description="First year, month or day.")]
    end: Annotated[Day | None, Field(description="Last one. Default: that of start.")] = None

    @model_validator(mode="after")
    def _goes_forward(self) -> Self:
        if self.end is not None and self.end < self.start[: len(self.end)]:
            raise ValueError("end is before start: swap them")
        return self


class Taxon(Described):
    """A group of organisms that is shown."""

    name: Annotated[Line, Field(description="Scientific name.")]
    rank: Annotated[Short | None, Field(description="Its rank, for example Class.")] = None
    aphia_id: Annotated[
        int | None, Field(ge=1, le=9_999_999, description="AphiaID of the World Register of Marine Species.")
    ] = None

    @property
    def uri(self) -> str | None:
        """The taxon's LSID in the World Register of Marine Species; None without an AphiaID."""
        return None if self.aphia_id is None else f"urn:lsid:marinespecies.org:taxname:{self.aphia_id}"


class Acquisition(Described):
    """By what, and for what, images were taken: the names that iFDO has for that."""

    project: Annotated[Line | None, Field(description="The project or expedition.")] = None
    platform: Annotated[Line | None, Field(description="What carried the camera: a vessel, ROV, mooring, net.")] = None
    sensor: Annotated[Line | None, Field(description="The camera or scanner.")] = None
    event: Annotated[Line | None, Field(description="The dive, station, haul or deployment.")] = None
    context: Annotated[Line | None, Field(description="The larger frame, for example a monitoring programme.")] = None


class Metadata(Described):
    """What people say of a dataset, and what catalogues and publications tell of it. No part of a version's digest."""

    title: Annotated[Line | None, Field(description="Title.")] = None
    description: Annotated[Prose | None, Field(description="What it is, in as many sentences as needed.")] = None
    creators: Annotated[list[Party], Field(max_length=100, description="Who made it, in the order of a citation.")] = []
    contributors: Annotated[list[Contributor], Field(max_length=100, description="Who else contributed to it.")] = []
    contact: Annotated[Contact | None, Field(description="Whom to ask about it.")] = None
    publisher: Annotated[Party | None, Field(description="Who publishes it, such as the repository.")] = None
    license: Annotated[LicenseId | None, Field(description="Id of its licence in the SPDX list.")] = None
    access: Annotated[
        Literal["Open", "Restricted"] | None,
        Field(description="Who may have the images. Metadata is always open. Default: Open."),
    ] = None
    issued: Annotated[Day | None, Field(description="When it was published. Default: when the version was made.")] = (
        None
    )
    language: Annotated[
        Language | None, Field(description="Language of its texts and class names, as a tag of BCP 47.")
    ] = None
    keywords: Annotated[list[Short], Field(max_length=100, description="Words that people search for.")] = []
    subjects: Annotated[list[Subject], Field(max_length=100, description="Terms of vocabularies.")] = []
    identifier: Annotated[Doi | None, Field(description="A DOI that it already has.")] = None
    funding: Annotated[list[Funding], Field(max_length=50, description="Who funded it.")] = []
    related: Annotated[
        list[Related], Field(max_length=100, description="Other works, such as the paper about it.")
    ] = []
    coverage: Annotated[list[Area], Field(max_length=50, description="Where images were taken.")] = []
    period: Annotated[Period | None, Field(description="When images were taken.")] = None
    taxa: Annotated[list[Taxon], Field(max_length=300, description="Groups of organisms that are shown.")] = []
    acquisition: Annotated[Acquisition | None, Field(description="What took the images.")] = None
    methods: Annotated[
        Prose | None,
        Field(description="How images were taken and annotated: their provenance."),
    ] = None

    def derived(self, doi: object) -> Metadata:
        """This metadata with the DOI of the fetched source as a related work, unless that is listed already."""
        named = {identifiers.url(each.identifier) for each in self.related}
        if not isinstance(doi, str) or identifiers.kind_of(doi) != "DOI" or identifiers.url(doi) in named:
            return self
        source = Related(identifier=doi, relation="IsDerivedFrom", kind="Dataset")
        return self.model_copy(update={"related": [*self.related, source]})

    @property
    def is_open(self) -> bool:
        """Whether the images are open to everyone."""
        return self.access != "Restricted"


class InvalidMetadataError(ValueError):
    """The metadata of a resource is not valid; the message names the field and what is allowed."""


def of_spec(spec: Mapping[str, Any]) -> Metadata:
    """The metadata in a Dataset's spec as stored in the API server.

    Raises:
        InvalidMetadataError: it is invalid; an earlier release may have accepted it.
    """
    try:
        return Metadata.model_validate(spec.get("metadata") or {})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(map(str, ("spec.metadata", *problem["loc"])))
        raise InvalidMetadataError(f"{field}: {problem['msg']}; correct it in the Dataset") from error
