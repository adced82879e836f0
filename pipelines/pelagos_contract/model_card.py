"""What people say of a model, and the documents that are written of it: its report, its card, and its entries for catalogues.

The card is no part of what a training is made from: who corrects a word trains nothing again.
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
"""Names of the documents, in the folder that `folder_of` says."""
REPORT_FOLDER, CARD_FOLDER = "report", "card"
"""Among the artifacts of the tracked run: of the page, and of all else."""
LARGEST = 5_000_000
"""Bytes of a document."""
MOST_CREATORS = 20


class Card(Described):
    """What people say of a model: what only they can know."""

    title: Annotated[Line | None, Field(description="Title. Default: its architecture and its dataset.")] = None
    summary: Annotated[Line | None, Field(description="What it does, in a sentence.")] = None
    intended_use: Annotated[
        Prose | None, Field(description="What it is meant for, by whom, and what it is not meant for.")
    ] = None
    limitations: Annotated[Prose | None, Field(description="Where it fails, or has not been tried.")] = None
    contact: Annotated[Contact | None, Field(description="Whom to ask about it.")] = None
    license: Annotated[LicenseId | None, Field(description="Id of the model's licence in the SPDX list.")] = None
    citation: Annotated[Prose | None, Field(description="How to cite it.")] = None
    source_code: Annotated[
        Address | None,
        Field(description="Address of the code that it belongs to. ai4-metadata is written when there is one."),
    ] = None


class DatasetSaid(Strict):
    """What is said of the dataset version that a training uses. ``doi`` is that of exactly this version."""

    title: Line | None = None
    creators: Annotated[list[Line], Field(max_length=MOST_CREATORS)] = []
    license: LicenseId | None = None
    doi: Doi | None = None
    identifier: Doi | None = None
    """The DOI of the dataset, where it has one: of whichever version."""


class About(Strict):
    """What a training is told for its documents alone; nothing of it decides what is trained."""

    resource: Annotated[str, Field(max_length=600)] = ""
    card: Card | None = None
    dataset: DatasetSaid | None = None


class Document(Strict):
    """A document of a model, in the folder that `folder_of` says."""

    name: str
    sha256: str
    bytes: int


def folder_of(package: str) -> str:
    """The folder of the documents of the model package with this uri: beside it, since a package holds what is served alone."""
    return f"{package}.documents"
