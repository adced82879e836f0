"""Inspects every image of a source: whether it can be decoded, its digest, size and look.

Called by the step prepare before annotations are read. The findings depend only on an image's bytes, so they are kept in the
store, and inspecting a large source again decodes only new images. Images are decoded in children with ceilings (inspection.py):
if one fails there, it is refused by name, and the others continue.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import orjson

from pelagos_contract import disk
from pelagos_contract.beneath import ChangedError, TooLargeError
from pelagos_contract.preprocessing import Tile
from pelagos_pipelines.annotations import kinds
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.preparation import measures, pictures, statistics
from pelagos_pipelines.preparation.measures import Measures
from pelagos_pipelines.preparation.scanner import scanner_for
from pelagos_pipelines.preparation.statistics import Channels, Wanted
from pelagos_pipelines.sandbox import MEBIBYTE, Answer, Pool, SandboxError, TaskRefusedError, children_for
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it
from pelagos_pipelines.serving import decoding, reducing

MEMORY_VERSION = 10
"""Incremented when an inspection of the same bytes would find something else."""
MAX_CHILDREN = 4
REMARKS: Mapping[str, str] = {
    "no end marker": "JPEG files lack their end marker, and nothing else; they are used",
    "stray bytes": "JPEG files have stray bytes in front of their end: some cameras write them, and some damage leaves them;"
    " they are used: look at them",
    "transparent": "images are partly transparent; models see their colours as if they were not",
    "turned": "images are turned by their EXIF orientation; they are used upright",
    "flipped": "images are mirrored or upside down by their EXIF orientation; they are used upright",
    "animated": "PNG files are animated; the picture that programs show which know no animation is used",
    "dim": "images of 16 bits a sample use a small part of the range that they are shown in: models see them dark; stretch"
    " them to the whole range if they are meant to be brighter",
    "8 bits of 16": "images of 16 bits a sample use no more than 8, and are shown by these, others of this source by"
    " the upper 8 of more",
    "12 bits of 16": "images of 16 bits a sample use no more than 12, and are shown by the upper 8 of these, others of this"
    " source by other ones",
    "16 bits of 16": "images of 16 bits a sample are shown by the upper 8, others of this source by lower ones",
}
"""The remarks about images (images.py, inspection.py), each with the rest of a sentence that begins with a number."""
DEPTHS = ("8 bits of 16", "12 bits of 16", "16 bits of 16")
"""Remarks that matter only if a source has several of them, because their brightness differs then."""
LOOK_BYTES = 100
"""Bytes of a look. Repeated here, because looks.py needs OpenCV and is for children."""
_BEGINNING = 1024**2
"""Bytes that are read of an image that is too large to be read whole."""
_AT_ONCE = 16
"""Images per task of a thread, and of a child if they are small: a request takes as long as decoding a small image."""
_SMALL = MEBIBYTE
_TOGETHER = 4 * _SMALL
"""The most bytes of an image that is sent to a child together with others, and about the most of one request."""
OTHER_KIND = f"it is not {decoding.NAMES}, which is what is read"
"""The problem of an image that was not decoded because of its type."""
_TASKS = "pelagos_pipelines.preparation.inspection"


@dataclass(frozen=True, slots=True)
class Blob:
    """The file that versions hold for an image: its ``sha256``, and its ``size`` in bytes."""

    sha256: str
    size: int


Keep = Callable[[Blob, bytes], None]
"""Stores a file for versions to come."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """The findings about an image file. ``size`` in bytes; ``width`` and ``height`` in pixels, upright as training sees it.

    ``pixels`` is the sha256 of the decoded pixels, empty if no other image of the source can have the same. ``look`` is from
    looks.py, None for a plain image. ``problem`` says why the file cannot be used; width and height are 0 then. ``remarks``, keys
    of REMARKS, say what is odd about a usable image. ``converted`` is the PNG with the same pixels that versions hold instead of
    a file that is neither JPEG nor PNG. Every usable image has ``measures``; ``channels`` only if requested.
    """

    sha256: str
    size: int
    width: int = 0
    height: int = 0
    pixels: str = ""
    look: bytes | None = None
    problem: str | None = None
    remarks: tuple[str, ...] = ()
    converted: Blob | None = None
    measures: Measures | None = None
    channels: Channels | None = None
    reduced: tuple[int, int] | None = None
    """Width and height in versions if the image is reduced; ``converted`` has that size then."""

    @property
    def identity(self) -> str:
        """A digest that is the same for all images that show the same pixels."""
        return self.pixels or self.sha256

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height in versions."""
        return self.reduced or (self.width, self.height)

    @property
    def blob(self) -> Blob:
        """The file that versions hold."""
        return self.converted or Blob(self.sha256, self.size)


class Inspector:
    """Inspects images in sandboxed children. Threads may share it."""

    def __init__(self, ceilings: Ceilings) -> None:
        """Start nothing yet: the first image starts the children."""
        self.ceilings = ceilings
        limits = decoding.limits(ceilings)
        # For samples of 16 bits.
        limits = replace(limits, result=2 * limits.result)
        self.children = children_for(limits, MAX_CHILDREN)
        self.unsure: set[str] = set()
        """Digests of images whose result may differ next time, such as after a reached ceiling."""
        self.larger: set[str] = set()
        """Digests of images with more pixels than the ceiling."""
        self.pool = Pool(_TASKS, limits, self.children, decoding.environment(ceilings))

    def inspect(
        self,
        content: bytes,
        digest: str,
        keep: Keep = lambda blob, picture: None,
        wanted: Wanted | None = None,
        longest: int | None = None,
    ) -> Inspection:
        """The findings about an image, or why it cannot be used.

        ``keep`` receives the PNG of an image that is neither JPEG nor PNG, or is reduced so that no side exceeds ``longest``.
        """
        try:
            asked: dict[str, object] = {} if wanted is None else {"channels": {"color": wanted.color}}
            asked |= {} if longest is None else {"longest": longest}
            answer = self.pool.run("inspect", asked, content)
            found = _inspection(digest, len(content), answer.document, wanted=wanted is not None, longest=longest)
            if found.problem is not None or (not answer.raw and found.reduced is None):
                return found
            return _converted(found, answer, keep)
        except TaskRefusedError as refusal:
            if refusal.detail.get(decoding.TOO_MANY_PIXELS) is True:
                self.larger.add(digest)
            return Inspection(digest, len(content), problem=str(refusal))
        except SandboxError as error:
            self.unsure.add(digest)
            return Inspection(digest, len(content), problem=decoding.explain(error, self.ceilings))

    def inspect_each(self, contents: Mapping[str, bytes], wanted: Wanted | None = None) -> dict[str, Inspection]:
        """Findings by digest, without digests of pixels, and without images that must be inspected alone.

        The ceilings of one image apply to all together. If the child fails, it is unknown which image caused it, so the result is
        empty and none is refused.
        """
        asked: dict[str, object] = {"sizes": [len(content) for content in contents.values()]}
        asked |= {} if wanted is None else {"channels": {"color": wanted.color}}
        try:
            told = self.pool.run("inspect_each", asked, b"".join(contents.values())).document.get("found")
        except (TaskRefusedError, SandboxError):
            return {}
        if not isinstance(told, list) or len(told) != len(contents):
            return {}
        found = {
            digest: _inspection(digest, len(content), one, wanted=wanted is not None, digested=False)
            for (digest, content), one in zip(contents.items(), told, strict=True)
            if isinstance(one, dict)
        }
        return {digest: one for digest, one in found.items() if one.problem is None}

    def version(self) -> str:
        """The decoders and ceilings that findings depend on, as a text."""
        decoders = self.pool.run("version", {}).document["version"]
        ceilings = self.ceilings
        return (
            f"{MEMORY_VERSION} {decoders} {pictures.VERSION} {ceilings.image_megapixels} {ceilings.image_mebibytes} "
            f"{ceilings.image_memory} {ceilings.image_seconds}"
        )


@cache
def inspector_for(ceilings: Ceilings) -> Inspector:
    """The inspector of this process for all sources; its children are kept until the process ends."""
    return Inspector(ceilings)


def inspect_tree(  # noqa: PLR0913 - everything that findings depend on
    tree: SourceFiles,
    memory: Path,
    count: Callable[[int, int], None] = lambda done, total: None,
    keep: Keep = lambda blob, picture: None,
    wanted: Wanted | None = None,
    *,
    tile: Tile | None = None,
    longest: int | None = None,
) -> dict[str, Inspection]:
    """Inspect every image of the source. ``memory`` is the file of earlier findings, which is updated.

    ``count`` is called after each image with the number done and the total. ``keep`` receives the PNG of every image that is
    converted now. With a ``tile``, images that do not fit in one may have any size below the ceilings of scans. With ``longest``,
    larger images are reduced, and ``keep`` receives them as well.
    """
    inspector = inspector_for(Ceilings.read())
    with ThreadPoolExecutor(inspector.children) as threads:
        version = inspector.version() + ("" if wanted is None else wanted.written())
        version += "" if tile is None else scanner_for(inspector.ceilings).version()
        version += "" if longest is None else f" longest {longest}"
        known = _recall(memory, version, longest)
        paths, found = tree.readable, list[Inspection]()
        looking = _Looking(tree, known, inspector, keep, wanted, tile, longest)
        # A small source is divided so that every child gets some.
        many = max(1, min(_AT_ONCE, len(paths) // (2 * inspector.children)))
        for some in threads.map(looking.at, [paths[start : start + many] for start in range(0, len(paths), many)]):
            for inspection in some:
                found.append(inspection)
                count(len(found), len(paths))
        doubtful = _doubtful(paths, found)
        # Of equal files, one may have been inspected alone, with a digest of its pixels.
        digested = {one.sha256: one for one in found if one.pixels}
        digested |= zip(doubtful, threads.map(looking.again, doubtful.values(), doubtful), strict=True)
        found = [one if one.problem is not None else digested.get(one.sha256, one) for one in found]
    if any(known.get(inspection.sha256) is not inspection for inspection in found):
        # Uncertain results are not kept, so that those images are inspected again next time.
        sure = {one.sha256: one for one in found if one.sha256 not in inspector.unsure}
        rows = []
        for one in (known | sure).values():
            look = None if one.look is None else one.look.hex()
            blob = None if one.converted is None else [one.converted.sha256, one.converted.size]
            known_of = None if one.measures is None else one.measures.written()
            row = (one.sha256, one.size, one.width, one.height, one.pixels, look, one.problem, one.remarks, blob)
            rows.append([*row, known_of, one.channels])
        disk.write_atomically(memory, orjson.dumps({"version": version, "inspections": rows}), parents=True)
    inspections = dict(zip(tree.readable, found, strict=True))
    for path in tree.unreadable:
        with tree.open(path) as opened:
            size = opened.size
        inspections[path] = Inspection(_name_unread(tree, path, size), size, problem=OTHER_KIND)
    return inspections


def _doubtful(paths: Sequence[str], found: Sequence[Inspection]) -> dict[str, str]:
    """One path, by digest, of each image without a pixel digest that may equal another: all other findings are the same."""
    alike: dict[tuple[object, ...], dict[str, str]] = {}
    for path, one in zip(paths, found, strict=True):
        if one.problem is None:
            alike.setdefault((one.width, one.height, one.look, one.measures), {})[one.sha256] = path
    digested = {one.sha256 for one in found if one.pixels}
    groups = (group for group in alike.values() if len(group) > 1)
    return {digest: path for group in groups for digest, path in group.items() if digest not in digested}


def _inspection(
    digest: str,
    size: int,
    found: Mapping[str, object],
    *,
    wanted: bool = False,
    longest: int | None = None,
    digested: bool = True,
) -> Inspection:
    """The findings in a child's answer, if they are plausible: the image may have taken over the child."""
    width, height, pixels = (found.get(name) for name in ("width", "height", "pixels"))
    if not digested:
        pixels = ""
    if not (isinstance(width, int) and isinstance(height, int) and min(width, height) > 0):
        return Inspection(digest, size, problem="the image cannot be decoded: its content is hostile")
    look, told = _look(found.get("look")), found.get("measures")
    measured = measures.believed(told, width * height) if isinstance(told, dict) else None
    if not (isinstance(pixels, str) and len(pixels) == (64 if digested else 0)) or (
        look is not None and len(look) != LOOK_BYTES
    ):
        return Inspection(digest, size, problem="the image cannot be decoded: its content is hostile")
    sums = found.get("channels")
    wide, high = reducing.size(width, height, longest)
    channels = statistics.believed(sums, wide * high) if wanted and isinstance(sums, dict) else None
    if measured is None or wanted is not (channels is not None):
        return Inspection(digest, size, problem="the image cannot be decoded: its content is hostile")
    remarks = found.get("remarks")
    odd = tuple(one for one in REMARKS if one in remarks) if isinstance(remarks, list) else ()
    return Inspection(
        digest,
        size,
        width,
        height,
        pixels,
        look,
        remarks=odd,
        measures=measured,
        channels=channels,
        reduced=_reduced(width, height, longest),
    )


def _reduced(width: int, height: int, longest: int | None) -> tuple[int, int] | None:
    found = reducing.size(width, height, longest)
    return None if found == (width, height) else found


def _converted(found: Inspection, answer: Answer, keep: Keep) -> Inspection:
    """``found`` with the PNG of the samples that a child returned, if they fit the image."""
    try:
        picture = pictures.png(answer.raw, *found.shown, answer.document.get("samples"), answer.document.get("bits"))
    except ValueError:
        return Inspection(found.sha256, found.size, problem="the image cannot be decoded: its content is hostile")
    blob = Blob(hashlib.sha256(picture).hexdigest(), len(picture))
    keep(blob, picture)
    return replace(found, converted=blob)


def convert(tree: SourceFiles, path: str, longest: int | None = None) -> bytes:
    """Convert an image to PNG again, for a store that no longer has it; empty if that is no longer possible.

    Raises as `SourceFiles.read` does.
    """
    inspector = inspector_for(Ceilings.read())
    content = tree.read(path, inspector.ceilings.image_mebibytes * MEBIBYTE)
    made = [b""]
    digest = hashlib.sha256(content).hexdigest()
    inspector.inspect(content, digest, lambda blob, picture: made.append(picture), longest=longest)
    return made[-1]


def _look(stored: object) -> bytes | None:
    """A look from its hexadecimal form; empty bytes if it is invalid."""
    if stored is None:
        return None
    try:
        return bytes.fromhex(str(stored))
    except ValueError:
        return b""


@dataclass(frozen=True)
class _Looking:
    """Inspects the images of one source; ``known`` has earlier findings by digest."""

    tree: SourceFiles
    known: Mapping[str, Inspection]
    inspector: Inspector
    keep: Keep
    wanted: Wanted | None
    tile: Tile | None
    longest: int | None

    def at(self, paths: Sequence[str]) -> list[Inspection]:
        """The inspections of some images, in order. Small ones are sent to a child together."""
        found, waiting, size = dict[str, Inspection](), dict[str, tuple[str, bytes]](), 0
        for path in paths:
            seen = self._seen(path)
            if isinstance(seen, Inspection):
                found[path] = seen
                continue
            digest, content = seen
            # Images that are tiled, reduced or converted need a separate answer, with pixel data or a digest.
            alone = self.tile is not None or self.longest is not None or not decoding.is_common(content)
            if alone or len(content) > _SMALL:
                found[path] = self._alone(path, digest, content)
                continue
            waiting[path] = seen
            size += len(content)
            if size >= _TOGETHER:
                found |= self._inspected(waiting)
                waiting, size = {}, 0
        found |= self._inspected(waiting)
        return [found[path] for path in paths]

    def again(self, path: str, before: str) -> Inspection:
        """Inspect an image alone, with the digest of its pixels. Its content must still have the digest ``before``."""
        content = self.tree.read(path, self.inspector.ceilings.image_mebibytes * MEBIBYTE)
        digest = hashlib.sha256(content).hexdigest()
        if digest != before:
            raise ChangedError(f"{path!r} changed while it was read; try again")
        return self._alone(path, digest, content)

    def _seen(self, path: str) -> Inspection | tuple[str, bytes]:
        """The inspection of an image if it is known without decoding, else its digest and content."""
        try:
            content = self.tree.read(path, self.inspector.ceilings.image_mebibytes * MEBIBYTE)
        except TooLargeError as error:
            problem = decoding.too_large(error.size, self.inspector.ceilings)
            if self.tile is not None:
                return self._scan(path, self.tile, problem)
            return Inspection(_name_unread(self.tree, path, error.size), error.size, problem=problem)
        digest = hashlib.sha256(content).hexdigest()
        if kinds.is_other(content[: kinds.BEGINNING]):
            return Inspection(digest, len(content), problem=OTHER_KIND)
        return self.known.get(digest) or (digest, content)

    def _inspected(self, waiting: Mapping[str, tuple[str, bytes]]) -> dict[str, Inspection]:
        contents = dict(waiting.values())
        found = self.inspector.inspect_each(contents, self.wanted) if len(contents) > 1 else {}
        return {
            path: found.get(digest) or self._alone(path, digest, content) for path, (digest, content) in waiting.items()
        }

    def _alone(self, path: str, digest: str, content: bytes) -> Inspection:
        found = self.inspector.inspect(content, digest, self.keep, self.wanted, self.longest)
        if found.problem is not None and self.tile is not None and digest in self.inspector.larger:
            del content
            return self._scan(path, self.tile, found.problem)
        return found

    def _scan(self, path: str, tile: Tile, otherwise: str) -> Inspection:
        """Inspect an image beyond the usual ceilings, to be tiled; ``otherwise`` is the problem of one that fits in one tile."""
        scanner = scanner_for(self.inspector.ceilings)
        most = scanner.ceilings.scan_mebibytes * MEBIBYTE
        with self.tree.open(path) as opened:
            if opened.size > most:
                problem = f"the image has {opened.size} bytes; at most {most} are cut into tiles ({raise_it('scan_mebibytes')})"
                return Inspection(_name_unread(self.tree, path, opened.size), opened.size, problem=problem)
            with os.fdopen(os.dup(opened.descriptor), "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            beginning = os.pread(opened.descriptor, kinds.BEGINNING, 0)
            if kinds.is_other(beginning):
                return Inspection(digest, opened.size, problem=OTHER_KIND)
            if digest in self.known:
                return self.known[digest]
            try:
                found = _inspection(digest, opened.size, scanner.inspect(opened.descriptor))
            except TaskRefusedError as refusal:
                return Inspection(digest, opened.size, problem=str(refusal))
            except SandboxError as error:
                self.inspector.unsure.add(digest)
                return Inspection(digest, opened.size, problem=decoding.explain(error, scanner.ceilings))
            opened.require_same()
        if max(found.width, found.height) <= tile.size:
            return Inspection(digest, found.size, problem=found.problem or otherwise)
        return found


def _name_unread(tree: SourceFiles, path: str, size: int) -> str:
    """A substitute for the digest of a file that is not read whole, by size and beginning: sparse files can claim exabytes."""
    with tree.open(path) as opened:
        beginning = os.read(opened.descriptor, _BEGINNING)
    return hashlib.sha256(f"unread, {size} bytes:".encode() + beginning).hexdigest()


def _recall(memory: Path, version: str, longest: int | None) -> dict[str, Inspection]:
    known: dict[str, Inspection] = {}
    try:
        content = orjson.loads(memory.read_bytes())
        if content["version"] != version:
            return {}
        for sha256, size, width, height, pixels, stored, problem, remarks, converted, told, sums in content[
            "inspections"
        ]:
            look = _look(stored)
            if look is not None and len(look) != LOOK_BYTES:
                return {}
            blob = None if converted is None else Blob(*converted)
            more = Measures.recalled(told), statistics.recalled(sums), _reduced(width, height, longest)
            known[sha256] = Inspection(sha256, size, width, height, pixels, look, problem, tuple(remarks), blob, *more)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return {}  # unreadable findings cost only the time to inspect again
    return known
