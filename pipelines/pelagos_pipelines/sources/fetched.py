"""Common code of remote places: their errand with its Secret, and the files of archives."""

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
from pelagos_pipelines.sources.kept import Kept
from pelagos_pipelines.sources.place import Errand
from pelagos_pipelines.storage import StorageRefusedError, places
from pelagos_pipelines.storage.buckets import Object

_MOST_KEYS = 100


@contextmanager
def errand(
    source: Source,
    scratch: Path,
    progress: Callable[[int, int], None],
    kept: Kept | None = None,
) -> Iterator[Errand]:
    """The errand for the place that ``source`` names, from the environment of this step; see Errand.

    Raises:
        RefusedError: SOURCE_SECRET_INCOMPLETE, or SOURCE_NOT_ALLOWED for an invalid setting.
    """
    secret = _secret(source)
    with Client(Policy.read(), f"source.{source.place}") as client:
        yield Errand(client, scratch, secret, progress, kept or Kept())


def unpacked(
    name: str, file: Path, errand: Errand, complete: Callable[[Path], None] = lambda folder: None
) -> SourceFiles:
    """The files in the archive at ``file``, called ``name`` in messages. The archive is deleted before images are read.

    ``complete`` adds files to the folder that the archive lacks.
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
    complete(found.folder)
    tree = volume.collected(name, Folder(found.folder), found.folder, errand.client.field)
    excluded = (*tree.excluded, *Exclusion.of(found.beside, ExclusionReason.HIDDEN))
    return replace(tree, excluded=excluded, warnings=(*tree.warnings, *found.warnings))


def arranged(files: Mapping[str, Path], errand: Errand) -> SourceFiles:
    """Arrange files by their names; a single archive is replaced by its content.

    With several files, each archive becomes a folder of its name beside the others. Names have passed `safe`.
    Raises RefusedError and FullError as `unpacked`.
    """
    field = errand.client.field
    names = list(files)
    if len(names) == 1 and _kind(names[0], files[names[0]]) is not None:
        return unpacked(names[0], files[names[0]], errand)
    root, warnings = errand.scratch / "arranged", list[str]()
    kinds = {name: _kind(name, file) for name, file in files.items()}
    # Plain files first, so that none can replace the content of an archive.
    for name in sorted(files, key=lambda name: kinds[name] is not None):
        file, kind, target = files[name], kinds[name], root / name
        if kind is None:
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
            continue
        target = root / archives.without_ending(name)
        while target.exists():
            target = target.with_name(f"{target.name}.unpacked")
        with Folder(file.parent).open(file.name) as opened:
            file.unlink()
            warnings += archives.unpack(name, opened, target, volume.MAX_FILES, field, kind).warnings
    tree = volume.collected("what was fetched", Folder(root), root, field)
    return replace(tree, warnings=(*tree.warnings, *warnings))


def safe(sizes: Mapping[str, int], errand: Errand) -> Mapping[str, Path]:
    """The target of each file below the scratch folder. The names are untrusted and must be valid file names.

    Raises:
        RefusedError: FORMAT_INVALID for an invalid name, or more files than a source may have.
        FullError: the disk has no space for all of them.
    """
    if len(sizes) > volume.MAX_FILES:
        raise RefusedError(
            Reason.FORMAT_INVALID,
            f"it holds {len(sizes)} files, allowed are {volume.MAX_FILES}; divide it",
            errand.client.field,
        )
    objects = {name: Object(name, size, "") for name, size in sizes.items()}
    folder = errand.scratch / "brought"
    try:
        targets = places.safe_targets(objects, folder)
    except StorageRefusedError as error:
        raise RefusedError(Reason.FORMAT_INVALID, str(error), errand.client.field) from error
    places.require_room(folder, objects.values())
    return targets


def _kind(name: str, file: Path) -> str | None:
    """The kind of archive, if both name and content are of one, so that a table that begins like one is not."""
    named = archives.kind_of(name)
    with file.open("rb") as opened:
        return named and (archives.kind_in(opened.fileno()) or named)


def login(secret: Mapping[str, str], make: Callable[[Mapping[str, str]], Credentials], errand: Errand) -> Credentials:
    """The credentials that ``make`` returns for the Secret; empty without one. Raises RefusedError for an invalid header
    value."""
    if not secret:
        return Credentials()
    try:
        return make(secret)
    except ValueError as error:
        raise RefusedError(
            Reason.SOURCE_SECRET_INCOMPLETE, f"the Secret in secretRef cannot be used: {error}", errand.client.field
        ) from None


def counted(origin: Origin, tree: SourceFiles) -> Origin:
    """The origin with the number of files."""
    return origin.model_copy(update={"files": len(tree.files)})


def _secret(source: Source) -> Mapping[str, str]:
    """The Secret of the source by its keys; empty where it names none."""
    name = source.secret
    if name is None:
        return {}
    found = secret_content()
    keys = SOURCES.named(source.place).keys
    lacks = "it was not given to this step" if found is None else remote_sources.lacking(keys, found)
    if lacks:
        raise RefusedError(
            Reason.SOURCE_SECRET_INCOMPLETE,
            f"the Secret {name} cannot be used: {lacks}",
            f"source.{source.place}.secretRef",
        )
    return found or {}


def secret_content() -> dict[str, str] | None:
    """The content of the Secret that this step was given; None without one."""
    given = os.environ.get(SECRET_CONTENT)
    if given is not None:
        return {str(key): str(value) for key, value in json.loads(given).items()}
    folder = os.environ.get(SECRET_FOLDER)
    if not folder or not Path(folder).is_dir():
        return None
    found = dict[str, str]()
    # Kubernetes mounts the files of a Secret as links into folders whose names begin with two dots.
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
