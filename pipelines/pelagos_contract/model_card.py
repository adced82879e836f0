"""People's description of a model, and its documents: report, card, and entries for catalogues.

The card is not part of a training's inputs: correcting a word trains nothing again.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pelagos_contract.base import Strict
from pelagos_contract.identifiers import Doi, LicenseId
from pelagos_contract.metadata import Address, Contact, Described, Line, Prose

REPORT, CARD = "report.html", "model-card.md"
AI4_METADATA, MLDCAT_AP = "ai4-metadata.yml", "mldcat-ap.jsonld"
DOCUMENTS = (REPORT, CARD, AI4_METADATA, MLDCAT_AP)
"""Names of the documents, in the folder that `folder_of` returns."""
REPORT_FOLDER, CARD_FOLDER = "report", "card"
"""Folders among the artifacts of the tracked run: for the report page, and for all other documents."""
LARGEST = 5_000_000
"""Most bytes of a document."""
MOST_CREATORS = 20


class Card(Described):
    """What people say of a model: what only they can know."""

    title: Annotated[Line | None, Field(description="Title. Default: its architecture and its dataset.")] = None
    summary: Annotated[Line | None, Field(description="What it does, in a sentence.")] = None
    intended_use: Annotated[
        Prose | None, Field(description="What it is meant for, by whom, and what it is not meant for.")
    ] = None
    limitations: Annotated[Prose | None, Field(description="Where it fails, or has not been tested.")] = None
    contact: Annotated[Contact | None, Field(description="Whom to ask about it.")] = None
    license: Annotated[LicenseId | None, Field(description="Id of the model's licence in the SPDX list.")] = None
    citation: Annotated[Prose | None, Field(description="How to cite it.")] = None
    source_code: Annotated[
        Address | None,
        Field(description="Address of the code that it belongs to. ai4-metadata is written only with one."),
    ] = None


class DatasetSaid(Strict):
    """The description of the dataset version that a training uses. ``doi`` is that of exactly this version."""

    title: Line | None = None
    creators: Annotated[list[Line], Field(max_length=MOST_CREATORS)] = []
    license: LicenseId | None = None
    doi: Doi | None = None
    identifier: Doi | None = None
    """The DOI of the dataset, of any version, if it has one."""


class About(Strict):
    """Input of a training that is only used in its documents, and does not affect the model."""

    resource: Annotated[str, Field(max_length=600)] = ""
    card: Card | None = None
    dataset: DatasetSaid | None = None


class Document(Strict):
    """A document of a model, in the folder that `folder_of` says."""

    name: str
    sha256: str
    bytes: int


def folder_of(package: str) -> str:
    """The documents' folder for the model package with this uri. It is beside the package, which only holds what is served."""
    return f"{package}.documents"
