"""Turns a model package into the files that a local Triton server loads. Called by triton_local in threads; files only.

A service keeps its own copy of the package, so that nobody who writes to the store can change what is served, and so that it can
be restarted after the package was deleted. The folder has ``package/`` as in the store, ``repository/<model name>/`` for Triton,
and ``want.json``. Both are verified before every start: the package by its digests, the repository file by file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib import util
from io import BufferedReader
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import TypeAdapter

from pelagos.api import reasons
from pelagos.engines.triton import config as triton_config
from pelagos.engines.triton import package as model_package
from pelagos.engines.triton.package import ANSWER, DESCRIPTION, FILES, GRAPH, IMAGE, LARGEST, Manifest
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.serving import DesiredService
from pelagos_contract import disk

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_FICLONE = 0x40049409
"""Linux's ioctl that makes two files share their blocks until one of them is written."""


def prepare(want: DesiredService, folder: Path, others: Iterable[Path] = ()) -> Path:
    """Build the files for ``want`` in a new folder below ``folder``, and return it for `install`.

    ``others`` are folders of the same service, whose copies are used if the package was deleted. Raises RejectedError when the
    package is missing, incomplete, altered, or not the one that ``want`` names.
    """
    if not _MODEL_NAME.fullmatch(want.model_name):
        raise _rejected(f"the model name {want.model_name!r} is not allowed; use letters, digits, '.', '_' and '-'")
    partial = folder / "served.partial"
    remove(partial)
    copies = (place / "served" / "package" for place in (folder, *others))
    source = next((copy for copy in copies if _is_whole(copy, want)), None) or _path(want.package_uri)
    with disk.written(partial):
        (partial / "package").mkdir(parents=True)
        for name in (DESCRIPTION, *FILES):
            _copy(source, name, partial / "package" / name)
        # Verify the copy, which nobody else writes, and not the source.
        manifest = verify(partial / "package", want)
        for name, content in _repository(partial / "package", want, manifest).items():
            target = partial / "repository" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                # Hard links keep the graph on disk only once; altering either name alters both.
                target.hardlink_to(content)
                continue
            with target.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        record(partial, want)
    return partial


def record(served: Path, want: DesiredService) -> None:
    """Record the desired service that ``served`` is for."""
    disk.write_atomically(served / "want.json", json.dumps(dataclasses.asdict(want), indent=2))


def install(prepared: Path, served: Path) -> None:
    """Replace ``served`` with the prepared files; after a crash in between there is nothing to serve."""
    # Remove first, because a rename cannot replace a folder that is not empty. After a crash the files are built again.
    remove(served)
    prepared.rename(served)


def recorded(served: Path) -> DesiredService | None:
    """The desired service that ``served`` was built for; None when it has no valid record."""
    try:
        return TypeAdapter(DesiredService).validate_json((served / "want.json").read_bytes())
    except (OSError, ValueError):
        return None


def is_usable(served: Path, want: DesiredService) -> bool:
    """Whether ``served`` is exactly what would be built for ``want`` now: nothing altered, missing or added."""
    if recorded(served) != want:
        return False
    try:
        manifest = verify(served / "package", want)
        wanted = _repository(served / "package", want, manifest)
        folders = {str(parent) for name in wanted for parent in Path(name).parents}
        return _contents(served / "repository", folders) == wanted
    except (RejectedError, OSError):
        return False


def verify(package: Path, want: DesiredService) -> Manifest:
    """The description of the package in a folder. Raises RejectedError unless all its files are those that ``want`` names."""
    with _opened(package, DESCRIPTION) as file:
        content = file.read(LARGEST[DESCRIPTION] + 1)
    manifest = model_package.read(content, package / DESCRIPTION, want)
    for name in FILES:
        with _opened(package, name) as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        model_package.require_digest(package / name, actual, manifest.digest(name))
    with _opened(package, IMAGE) as image, _opened(package, ANSWER) as answer:
        model_package.known(manifest, image.read(), answer.read(), package / ANSWER)
    return manifest


def parse(body: bytes) -> Any:
    """The parsed JSON; None for anything else."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def remove(path: Path) -> None:
    """Delete a folder with all its content; no effect when it does not exist."""
    if path.exists():
        shutil.rmtree(path)


def _repository(package: Path, want: DesiredService, manifest: Manifest) -> dict[str, bytes | Path]:
    """All files of Triton's repository, by path: their content, or the file of the package that they link to."""
    version = f"{want.model_name}/1"
    files: dict[str, bytes | Path] = {f"{version}/{name}": package / name for name in (DESCRIPTION, GRAPH)}
    files |= {f"{version}/{name}": content for name, content in _code().items()}
    config = triton_config.render(triton_config.for_service(manifest, want))
    return files | {f"{want.model_name}/config.pbtxt": config.encode()}


def _contents(repository: Path, folders: Collection[str]) -> Mapping[str, bytes | Path]:
    """The repository's present files in the same form; empty when it contains anything unexpected, such as other folders."""
    package = repository.with_name("package")
    ours = {name: (package / name).stat() for name in (DESCRIPTION, GRAPH)}
    found: dict[str, bytes | Path] = {}
    for path in repository.rglob("*"):
        name, seen = path.relative_to(repository).as_posix(), path.lstat()
        if stat.S_ISDIR(seen.st_mode) and name in folders:
            continue
        same = path.name in ours and os.path.samestat(seen, ours[path.name])
        if not same and (not stat.S_ISREG(seen.st_mode) or seen.st_size > LARGEST[DESCRIPTION]):
            return {}
        found[name] = package / path.name if same else path.read_bytes()
    return found


def _code() -> dict[str, bytes]:
    """Our own code that serves every package, by path in a version folder. It is only read here, never imported."""
    spec = util.find_spec("pelagos_pipelines")
    if spec is None or spec.submodule_search_locations is None:
        raise OutageError("model package", "pelagos_pipelines, which holds the code that serves, is not installed")
    ours = Path(next(iter(spec.submodule_search_locations)))
    listed = json.loads((ours / "serving/code.json").read_bytes())
    code = {name: (ours.parent / name).read_bytes() for name in listed["modules"]}
    return code | {"model.py": (ours.parent / listed["model"]).read_bytes()}


def _is_whole(package: Path, want: DesiredService) -> bool:
    try:
        verify(package, want)
    except (RejectedError, OSError):
        return False
    return True


def _path(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        raise _rejected(f"{uri}: the local server reads folders of this machine only")
    return Path(unquote(parts.path) if parts.scheme else uri)


def _copy(package: Path, name: str, target: Path) -> None:
    """Copy a file of a package. The copy shares blocks with the original where the file system can do that, but is a new file."""
    with _opened(package, name) as file, target.open("xb") as written:
        try:
            fcntl.ioctl(written, _FICLONE, file.fileno())
        except OSError:
            left = LARGEST[name]
            while block := file.read(min(left, 1 << 20)):
                left -= len(block)
                written.write(block)
        written.flush()
        os.fsync(written.fileno())


@contextlib.contextmanager
def _opened(package: Path, name: str) -> Iterator[BufferedReader]:
    """Open a file of a package. Raises RejectedError for a link, a device, or a file that is larger than its kind may be."""
    path = package / name
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        hint = ". Was the package deleted?" if name == DESCRIPTION else f"; {model_package.AGAIN}"
        reason = reasons.MODEL_PACKAGE_MISSING if isinstance(error, FileNotFoundError) else reasons.SYSTEM_REJECTED
        raise _rejected(f"{path} cannot be read: {error.strerror}{hint}", reason) from error
    with os.fdopen(descriptor, "rb") as file:
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode):
            raise _rejected(f"{path} is not a plain file; {model_package.AGAIN}")
        model_package.require_size(path, seen.st_size, name)
        yield file


def _rejected(message: str, reason: reasons.Reason = reasons.SYSTEM_REJECTED) -> RejectedError:
    return RejectedError("model package", message, reason=reason)
