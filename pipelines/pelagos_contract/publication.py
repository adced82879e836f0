"""Publication of a version in an InvenioRDM repository such as Zenodo: the part of specs, and the step's requests and results.

The operator decides and never sees the token; the step prepare executes and gets the Secret. A publication is not part of a
version: it refers to the version by digest and changes nothing of it.
"""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints

from pelagos_contract import identifiers
from pelagos_contract.base import OneOf, Strict
from pelagos_contract.collection import Digest
from pelagos_contract.documents import DOCUMENTS
from pelagos_contract.formats import COCO, FORMATS, IMAGE_FOLDER
from pelagos_contract.metadata import Metadata
from pelagos_contract.remote_sources import SecretRef, SourceUrl
from pelagos_contract.tasks import Task

SANDBOX = "https://sandbox.zenodo.org"
"""The default repository of a spec: a sandbox whose DOIs do not resolve and whose content is deleted from time to time."""
TOKEN = "token"  # noqa: S105 - the name of a key
DRAFT: Literal["Draft"] = "Draft"
PUBLISHED: Literal["Published"] = "Published"
State = Literal["Draft", "Published"]
FIELD = "publish.zenodo"
"""The field of a spec, for messages."""
Owner = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z-]{1,64}$")]

WrittenFormat = Annotated[str, OneOf(lambda: tuple(known.name for known in FORMATS if known.view))]
DocumentName = Annotated[str, OneOf(lambda: DOCUMENTS.names)]


class TokenRef(SecretRef):
    """The key of a Secret in the Dataset's own namespace."""

    key: Annotated[
        str | None,
        Field(
            pattern=r"^([-._a-z0-9]+[-._])?token$",
            max_length=253,
            description="Its key with the token: token, or a name that ends with it, such as zenodo-token. Default: token.",
        ),
    ] = None


class ZenodoTarget(Strict):
    """A repository with InvenioRDM, as Zenodo is one."""

    url: Annotated[
        SourceUrl | None,
        Field(
            description="Address of the repository; https://zenodo.org publishes permanently. Default: "
            "https://sandbox.zenodo.org, which is for trials."
        ),
    ] = None
    secret_ref: Annotated[
        TokenRef, Field(description="Secret with a token of the repository that may write and publish deposits.")
    ]
    state: Annotated[
        State | None,
        Field(
            description="Draft: a draft with a reserved DOI is created for people to look at. Published: it is published, which "
            "cannot be undone. Default: Draft."
        ),
    ] = None
    community: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9a-zA-Z][-0-9a-zA-Z]{0,99}$",
            max_length=100,
            description="Community of the repository that a published record is proposed to, by its id in addresses.",
        ),
    ] = None


class Publish(Strict):
    """Where, and as what, versions are published."""

    zenodo: Annotated[ZenodoTarget, Field(description="Zenodo, or another repository with InvenioRDM.")]
    format: Annotated[
        WrittenFormat | None,
        Field(description="Format of the images and annotations. Default: ImageFolder for Classification, else Coco."),
    ] = None
    documents: Annotated[
        list[DocumentName] | None,
        Field(
            max_length=20,
            description="Documents of spec.metadata published with them. Default: all that spec.metadata suffices for.",
        ),
    ] = None
    version: Annotated[
        Digest | None,
        Field(description="Digest of the version, of those in status.versions. Default: the newest."),
    ] = None

    @property
    def url(self) -> str:
        """The repository's base URL, without a trailing slash."""
        return (self.zenodo.url or SANDBOX).rstrip("/")

    @property
    def state(self) -> State:
        """The desired state of a version in the repository."""
        return self.zenodo.state or DRAFT

    @property
    def is_trial(self) -> bool:
        """Whether the repository is the sandbox, whose DOIs do not resolve."""
        return self.url == SANDBOX

    def view(self, task: str) -> str:
        """The view in which a version is published: that of the chosen format, or the default for the task."""
        chosen = self.format or (IMAGE_FOLDER if task == Task.CLASSIFICATION else COCO).name
        view = FORMATS.named(chosen).view
        assert view is not None
        return view

    def chosen(self, metadata: Metadata) -> list[str]:
        """Names of the documents to publish: those in the spec, else all for which the metadata suffices."""
        if self.documents is not None:
            return list(dict.fromkeys(self.documents))
        return [each.name for each in DOCUMENTS if not each.lacking(metadata)]


def is_trial(doi: str | None) -> bool:
    """Whether a DOI has DataCite's test prefix, under which DOIs do not resolve."""
    return doi is not None and doi.startswith("10.5072/")


def repository_name(url: str) -> str:
    """The repository's name for people."""
    host = urlsplit(url).hostname or url
    return {"zenodo.org": "Zenodo"}.get(host, host)


class Repository(Strict):
    """Where the step publishes. ``key`` is that of its Secret with the token."""

    url: SourceUrl
    key: Annotated[str, Field(max_length=253)] = TOKEN


class Target(Repository):
    """The desired content of the record. ``view``: a name for `versions.materialise`. ``documents``: by name."""

    state: State
    community: str | None = None
    view: Annotated[str, Field(max_length=100)]
    documents: list[str]


class PublicationRequest(Strict):
    """A version to publish. ``owners`` are the uids of the Dataset and of those that had its name before, its own last.

    ``retry`` changes when there is a reason to try again. ``dataset`` is NAMESPACE/NAME, ``made`` the date of the version.
    """

    publish: Target
    version: Digest
    uri: Annotated[str, Field(max_length=4096)]
    dataset: Annotated[str, Field(max_length=512)]
    owners: Annotated[list[Owner], Field(min_length=1, max_length=200)]
    metadata: Metadata
    made: identifiers.Day
    retry: Annotated[str, Field(max_length=1024)] = ""


class DiscardRequest(Strict):
    """The unpublished draft of a deleted Dataset, to discard; what is published stays."""

    discard: Repository
    dataset: Annotated[str, Field(max_length=512)]
    owners: Annotated[list[Owner], Field(min_length=1, max_length=200)]


Told = Annotated[str, Field(max_length=500)]


class PublicationResult(Strict):
    """The present state in the repository. ``concept_doi`` refers to all versions; ``note`` is a message for people."""

    version: Digest
    state: State
    server: Told
    record: Told
    url: Told
    doi: Told | None = None
    concept_doi: Told | None = None
    at: Told
    retry: Annotated[str, Field(max_length=1024)] = ""
    note: Told | None = None


class DiscardResult(Strict):
    """The numbers of the discarded drafts."""

    discarded: list[Told]
