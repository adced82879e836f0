"""What places that are fetched from have in common: their errand with its Secret, and the files that an archive stands for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pelagos_contract import remote_sources
from pelagos_contract.beneath import Folder
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.remote_sources import LARGEST_SECRET, SECRET_CONTENT, SECRET_FOLDER, Origin
from pelagos_contract.sources import SOURCES, Source
from pelagos_pipelines.annotations.model import Exclusion, SourceFiles
from pelagos_pipelines.fetching import Client, Credentials, Policy
from pelagos_pipelines.sources import archives, volume
from pelagos_pipelines.sources.place import Errand

_MOST_KEYS = 100


@contextmanager
def errand(source: Source, scratch: Path, progress: Callable[[int, int], None]) -> Iterator[Errand]:
    """With what the place that ``source`` names is asked, by the environment of this step.

    Raises:
        RefusedError: SOURCE_SECRET_INCOMPLETE, and SOURCE_NOT_ALLOWED for a setting that is none.
    """
    secret = _secret(source)
    with Client(Policy.read(), f"source.{source.place}") as client:
        yield Errand(client, scratch, secret, progress)


def unpacked(name: str, file: Path, errand: Errand) -> SourceFiles:
    """The files in the archive at ``file``, which people call ``name``; its room is free again before images are looked at.

    Raises RefusedError and FullError, see `archives.unpack` and `volume.collect`.
    """
    with Folder(file.parent).open(file.name) as opened:
        file.unlink()
        kind = archives.kind_in(opened.descriptor) or archives.kind_of(name)
        if kind is None:
            raise RefusedError(
                Reason.FORMAT_INVALID,
                f"{name} is no archive ({archives.NAMES}), neither by its name nor by what is in it; pack the files",
                errand.client.field,
            )
        found = archives.unpack(name, opened, errand.scratch / "unpacked", volume.MAX_FILES, errand.client.field, kind)
    tree = volume.collected(name, Folder(found.folder), found.folder, errand.client.field)
    excluded = (*tree.excluded, *Exclusion.of(found.beside, ExclusionReason.HIDDEN))
    return replace(tree, excluded=excluded, warnings=(*tree.warnings, *found.warnings))


def login(secret: Mapping[str, str], make: Callable[[Mapping[str, str]], Credentials], errand: Errand) -> Credentials:
    """What ``make`` makes of the Secret; none without one. Raises RefusedError for a value that no header can have."""
    if not secret:
        return Credentials()
    try:
        return make(secret)
    except ValueError as error:
        raise RefusedError(
            Reason.SOURCE_SECRET_INCOMPLETE, f"the Secret in secretRef cannot be used: {error}", errand.client.field
        ) from None


def counted(origin: Origin, tree: SourceFiles) -> Origin:
    """With the number of files."""
    return origin.model_copy(update={"files": len(tree.files)})


def _secret(source: Source) -> Mapping[str, str]:
    """The Secret of the source by its keys; empty where it names none."""
    name = source.secret
    if name is None:
        return {}
    found = _content()
    keys = SOURCES.named(source.place).keys
    lacks = "it was not given to this step" if found is None else remote_sources.lacking(keys, found)
    if lacks:
        raise RefusedError(
            Reason.SOURCE_SECRET_INCOMPLETE,
            f"the Secret {name} cannot be used: {lacks}",
            f"source.{source.place}.secretRef",
        )
    return found or {}


def _content() -> dict[str, str] | None:
    """What this step was given; None: nothing."""
    given = os.environ.get(SECRET_CONTENT)
    if given is not None:
        return {str(key): str(value) for key, value in json.loads(given).items()}
    folder = os.environ.get(SECRET_FOLDER)
    if not folder or not Path(folder).is_dir():
        return None
    found = dict[str, str]()
    # Kubernetes keeps the files of a Secret behind links, in folders that begin with two dots.
    for file in sorted(Path(folder).iterdir())[:_MOST_KEYS]:
        if file.is_file() and not file.name.startswith(".."):
            with file.open("rb") as content:
                value = content.read(LARGEST_SECRET + 1)
            if len(value) > LARGEST_SECRET:
                raise RefusedError(
                    Reason.SOURCE_SECRET_INCOMPLETE,
                    f"the key {file.name!r} of the Secret has more than {LARGEST_SECRET} bytes, which is no credential",
                )
            found[file.name] = value.decode("utf-8", "replace")
    return found
