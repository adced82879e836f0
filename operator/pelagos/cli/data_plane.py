"""Runs programs of the data plane, which have their own environment, for commands; and resolves versions."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pelagos.settings import Settings


class DataPlaneError(Exception):
    """The data plane gave no answer; the message says why, in one line."""


def version_uri(name: str, status: Mapping[str, Any], version: str, asked: str) -> str:
    """The uri of a version of the Dataset ``name``: the newest, or the one whose digest begins with ``version``.

    ``asked`` is the user's input, for the message. Raises DataPlaneError.
    """
    uri = status.get("uri")
    if not isinstance(uri, str):
        raise DataPlaneError(f"Dataset {name} has no version yet; see kubectl describe dataset")
    if not version:
        return uri
    known = uris(status)
    meant = [digest for digest in known if digest.startswith(version.removeprefix("sha256:"))]
    if len(meant) != 1:
        there = ", ".join(digest[:12] for digest in known) or "none"
        raise DataPlaneError(f"{asked}: {len(meant)} versions of {name} begin with that; there are {there}")
    return known[meant[0]]


def uris(status: Mapping[str, Any]) -> Mapping[str, str]:
    """The uris of the versions that a Dataset lists, by digest without ``sha256:``, the newest first."""
    uri = str(status.get("uri") or "")
    store, _, newest = uri.rpartition("/")
    listed = [each for each in status.get("versions") or () if isinstance(each, Mapping) and each.get("version")]
    found = {}
    for each in listed:
        digest = str(each["version"]).removeprefix("sha256:")
        found[digest] = str(each.get("uri") or f"{store}/{digest}")
    return {**found, **({newest: uri} if newest and newest not in found else {})}


def run(
    settings: Settings,
    program: str,
    *arguments: object,
    versions: tuple[str, ...] = (),
    text: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run a module of the data plane on versions at uris, with ``text`` on its input and additional ``environment``.

    Returns its JSON answer. Raises DataPlaneError.
    """
    python = _python(settings)
    for uri in versions:
        if "://" not in uri and not Path(uri).is_dir():
            raise DataPlaneError(
                f"the version {uri} is not visible from this machine; run this command where its folder is mounted"
            )
    done = subprocess.run(
        [python, "-m", program, *map(str, arguments)],
        input=text,
        stdout=subprocess.PIPE,
        env=os.environ | _storage(settings) | dict(environment or {}),
        text=True,
        check=False,
    )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
        error = answer.get("error")
    except (ValueError, IndexError, AttributeError) as failure:
        raise DataPlaneError(
            f"{program} ended with code {done.returncode} and no answer; see its output above"
        ) from failure
    if error is not None:
        raise DataPlaneError(str(error))
    return dict(answer)


def fetch_package(settings: Settings, uri: str, manifest_sha256: str, folder: Path) -> None:
    """Fetch the model package at a uri into a folder, complete and verified by its digest. Raises DataPlaneError."""
    if "://" not in uri and not Path(uri).is_dir():
        raise DataPlaneError(
            f"the model package {uri} is not visible from this machine; run this command where its folder is mounted"
        )
    wanted = {"PELAGOS_PACKAGE_URI": uri, "PELAGOS_PACKAGE": str(folder), "PELAGOS_MANIFEST_SHA256": manifest_sha256}
    done = subprocess.run(
        [_python(settings), "-m", "pelagos_pipelines.serving.fetch"],
        stderr=subprocess.PIPE,
        env=os.environ | _storage(settings) | wanted,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode} and no message"])[-1]
        raise DataPlaneError(f"the model package cannot be fetched: {last.removeprefix('pelagos: ')}")


def _python(settings: Settings) -> Path:
    found = settings.environments / "pipelines" / "bin" / "python"
    if not found.exists():
        raise DataPlaneError(
            f"{found} does not exist: install Pelagos' environments (make install), or set PELAGOS_ENVIRONMENTS"
        )
    return found


def _storage(settings: Settings) -> dict[str, str]:
    """The environment variables that tell the data plane where object storage is."""
    if not settings.s3_endpoint:
        return {}
    authority = {"AWS_CA_BUNDLE": str(settings.s3_ca_file)} if settings.s3_ca_file else {}
    return {"AWS_ENDPOINT_URL": settings.s3_endpoint, "AWS_REGION": settings.s3_region, **authority}
