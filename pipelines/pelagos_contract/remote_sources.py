"""Sources that are not on the data volume: their part of specs, their Secrets, and the origin of what was fetched.

Specs only name Secrets. Their content reaches a step as files or environment, and never a spec, digest or result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import Field

from pelagos_contract.base import Strict
from pelagos_contract.values import Sha256

SECRET_FOLDER = "PELAGOS_SOURCE_SECRET"  # noqa: S105 - the name of a variable
"""Environment variable of a step with the folder that has a file for each key of the Secret, as a cluster mounts it."""
SECRET_CONTENT = "PELAGOS_SOURCE_SECRET_CONTENT"  # noqa: S105 - the name of a variable
"""Environment variable of a step in embedded mode with the same as a JSON object."""
SECRET_MOUNT = "/etc/pelagos/source-secret"  # noqa: S105 - a path
LARGEST_SECRET = 64 * 1024
"""Most bytes of a value in a Secret."""

SourceUrl = Annotated[str, Field(pattern=r"^https?://[!-~]+$", min_length=10, max_length=2048)]
Text = Annotated[str | None, Field(max_length=500)]


class SecretRef(Strict):
    """A Secret in the Dataset's own namespace."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253, description="Its name, in the same namespace."
        ),
    ]


class Origin(Strict):
    """What was fetched from a place, as its server reported. ``state`` changes with the content; None when that is unknown."""

    url: Annotated[Text, Field(description="Where it was fetched from, without the query.")] = None
    version: Annotated[Text, Field(description="Record, version, export or revision, by the service's own name.")] = (
        None
    )
    doi: Annotated[Text, Field(description="DOI of exactly this version.")] = None
    sha256: Annotated[Text, Field(description="Digest of the archive, where it is a single file.")] = None
    modified: Annotated[Text, Field(description="When it was last changed, according to the service.")] = None
    files: Annotated[int | None, Field(ge=0, le=10**9, description="Files that were fetched.")] = None
    bytes: Annotated[
        int | None,
        Field(ge=0, le=10**15, description="Bytes that were fetched; without images that the store already had."),
    ] = None
    state: Annotated[Text, Field(description="What is compared to detect changes.")] = None


def secret(keys: str) -> Any:
    """The field that names a Secret with these keys."""
    return Field(description=f"Secret that logs in, with the keys {keys}.")


class HttpSource(Strict):
    """An archive at an address."""

    url: Annotated[SourceUrl, Field(description="Address of an archive (zip, tar, tar.gz ...).")]
    sha256: Annotated[
        Sha256 | None, Field(description="Digest of the archive. Without it, whatever is there is taken.")
    ] = None
    secret_ref: Annotated[SecretRef | None, secret("token, or username and password, or header and value")] = None


class ZenodoSource(Strict):
    """The files of a record of Zenodo, or of another InvenioRDM."""

    record: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9a-z]([-0-9a-z]{0,62}[0-9a-z])?$",
            max_length=64,
            description="Number of the record: of one version, or of all versions, of which the newest is taken.",
        ),
    ] = None
    doi: Annotated[
        str | None,
        Field(
            pattern=r"^10\.[0-9]{4,9}/[-._;()/:A-Za-z0-9]+$",
            max_length=200,
            description="DOI of the record: of one version, or of all versions, of which the newest is taken.",
        ),
    ] = None
    url: Annotated[SourceUrl, Field(description="Address of the repository.")] = "https://zenodo.org"
    files: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=255)]],
        Field(max_length=100, description="Patterns of names (*.zip); files that match any are taken. Default: all."),
    ] = []
    secret_ref: Annotated[SecretRef | None, secret("token")] = None


class S3Source(Strict):
    """A prefix of a bucket, or an archive in it, on S3-compatible storage of its own."""

    uri: Annotated[
        str,
        Field(
            pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\x00-\x1f]*)?$",
            max_length=1024,
            description="Bucket and prefix, or archive: s3://bucket/prefix.",
        ),
    ]
    endpoint: Annotated[
        SourceUrl | None, Field(description="Address of the service. Default: that of AWS in the region.")
    ] = None
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$", max_length=40, description="Region of the bucket.")] = (
        "us-east-1"
    )
    secret_ref: Annotated[
        SecretRef | None,
        secret("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_SESSION_TOKEN where there is one"),
    ] = None


def lacking(alternatives: Sequence[Sequence[str]], keys: Iterable[str]) -> str | None:
    """What a Secret with ``keys`` lacks, in words; None when one of the ``alternatives`` is complete, or there are none."""
    given = set(keys)
    if not alternatives or any(given.issuperset(each) for each in alternatives):
        return None
    return f"it needs {' or '.join(' and '.join(each) for each in alternatives)}, and has {', '.join(sorted(given)) or 'no keys'}"
