"""Any content of third-party files is either read, within limits, or refused in words that do not repeat it. Nothing else.

Each target starts with the seeds in corpus/, which include one for every fault found, and continues with what Hypothesis derives
from them. ``make fuzz`` takes longer than the tests do; add what it finds to the corpus.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import dataset_versions
from image_sources import photo, text
from pelagos_contract.capture import CaptureSource
from pelagos_contract.dataset import PreparationRequest
from pelagos_contract.failures import RefusedError
from pelagos_contract.sources import VolumeSource
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import (
    biigle,
    coco,
    cvat,
    ecotaxa,
    ifdo,
    label_studio,
    labelbox,
    mask_pictures,
    pascal_voc,
    via,
    yolo,
)
from pelagos_pipelines.annotations.model import Asked, Collection, Format, ImageRecord
from pelagos_pipelines.fetching import Client, Policy
from pelagos_pipelines.preparation import integrity, versions
from pelagos_pipelines.preparation.capturing import applying
from pelagos_pipelines.sandbox import MEBIBYTE, LimitError, Limits, Pool, TaskRefusedError
from pelagos_pipelines.sandbox.ceilings import Ceilings
from pelagos_pipelines.serving import packages
from pelagos_pipelines.sources import archives, volume
from pelagos_pipelines.taxonomy import table, worms
from pelagos_pipelines.taxonomy.answers import Kept
from pelagos_pipelines.training import tensor_files

SECONDS = float(os.environ.get("PELAGOS_FUZZ_SECONDS", "3"))
"""How long each target is fuzzed."""
TOOLS = (
    *("cvat", "labelstudio", "biigle", "ecotaxa", "labelbox", "ifdo", "ifdo_json", "masks", "via"),
    *("capture_csv", "capture_ifdo", "exif", "taxa", "answers"),
)
"""Targets that share most of their code, or have little of it: each gets a third of the time."""
CORPUS = Path(__file__).parent / "corpus"
CANARY = b"canary"
_TOKENS = (
    CANARY,
    b'"canary"',
    b"[" * 500,
    b'{"a":' * 500,
    b"9" * 5000,
    b"1e999",
    b"-1",
    b"null",
    b"true",
    b"NaN",
    b'"\\ud800"',
    b"\\u0000",
    b"\x00",
    b"\xff",
    b"\r",
    b"\n",
    b"\xe2\x80\xa8",
    b"*a",
    b"&a",
    b"!!int ",
    b"<<: ",
    b"59:59:59",
    b"../",
    b"/etc/passwd",
    b"images/",
    b"download: x",
    b",",
    b"}",
    b"]",
    b":",
)


@dataclass(frozen=True)
class Edit:
    """Replaces ``length`` bytes by ``piece``, starting at ``start`` thousandths of the content."""

    start: int
    length: int
    piece: bytes

    def made(self, content: bytes) -> bytes:
        """The content after the edit."""
        at = len(content) * self.start // 1000
        return content[:at] + self.piece + content[at + self.length :]


EDITS = st.lists(
    st.builds(
        Edit,
        st.integers(0, 1000),
        st.one_of(st.just(0), st.integers(0, 30)),
        st.one_of(st.sampled_from(_TOKENS), st.binary(max_size=8)),
    ),
    min_size=1,
    max_size=4,
)


@dataclass
class World:
    """A source with a place for the content, and its reader. ``read`` returns the messages that people will see."""

    file: Path
    read: Callable[[], Sequence[str]]

    def look(self, content: bytes) -> None:
        """Read the content and check what people would see."""
        self.file.write_bytes(content)
        try:
            told = self.read()
        except RefusedError as error:
            told = [error.failure.message]
        for words in told:
            assert "canary" not in words.lower()
            assert "cannot be parsed" not in words  # a child failed in an unforeseen way
            assert len(words) < 4000


def _told(found: Collection) -> Sequence[str]:
    """The warnings without those that may name classes. People may see class names, but nothing else of a file."""
    return [
        words for words in found.warnings if not re.search("^classes that no annotation uses|share their name", words)
    ]


def _source(root: Path, reader: Format, task: Task = Task.DETECTION) -> Callable[[], Sequence[str]]:
    def read() -> Sequence[str]:
        tree = volume.collect(VolumeSource(path="."), root)
        return _told(reader.read(tree, lambda path: (40, 30), Asked(task)))

    return read


def _coco(root: Path) -> World:
    for name in ("a.png", "b.png"):
        photo(root / name)
    return World(root / "annotations.json", _source(root, coco.FORMAT))


def _tool(root: Path, reader: Format, file: str, task: Task = Task.DETECTION) -> World:
    for name in ("a.png", "b.png"):
        photo(root / "images" / name)
    return World(root / file, _source(root, reader, task))


def _masks(root: Path) -> World:
    for name in ("a.png", "b.png"):
        photo(root / "images" / name)
        photo(root / "masks" / name, seed=1)
    return World(root / "labelmap.txt", _source(root, mask_pictures.FORMAT, Task.SEMANTIC_SEGMENTATION))


def _voc(root: Path) -> World:
    for name in ("a.png", "b.png"):
        photo(root / "JPEGImages" / name)
    text(root / "Annotations/b.xml", "<annotation/>")
    text(root / "ImageSets/Main/train.txt", "a\n")
    return World(root / "Annotations/a.xml", _source(root, pascal_voc.FORMAT))


def _taxa(root: Path) -> World:
    photo(root / "a.png")

    def read() -> Sequence[str]:
        table.Table(volume.collect(VolumeSource(path="."), root), "taxa.csv").answers(["Gadus morhua", "cod"], [126436])
        return []

    return World(root / "taxa.csv", read)


def _answers(root: Path) -> World:
    """Kept answers of a service. Nothing is requested, since the platform's policy allows no address."""
    root.mkdir()
    url = "http://127.0.0.1:9/rest"
    client = Client(Policy(), worms.FIELD)

    def read() -> Sequence[str]:
        kept = Kept(root / "taxa.json", url, lambda: 1e9)
        worms.Worms(client, url, kept).answers(["Gadus morhua"], [126436])
        return []

    return World(root / "taxa.json", read)


def _yolo(root: Path, file: str) -> World:
    for name in ("a.png", "b.png"):
        photo(root / "images" / name)
    text(root / "data.yaml", "names: [cod, eel]\ntrain: train.txt\n")
    text(root / "train.txt", "images/a.png\n")
    text(root / "labels/b.txt", "0 0.5 0.5 0.5 0.5\n")
    text(root / "labels/a.txt", "0 0.5 0.5 0.5 0.5\n")
    if file == "classes.txt":
        (root / "data.yaml").unlink()
    return World(root / file, _source(root, yolo.FORMAT))


def _image(root: Path) -> World:
    root.mkdir()
    inspector = integrity.inspector_for(Ceilings.read())

    def read() -> Sequence[str]:
        content = (root / "a.png").read_bytes()
        found = inspector.inspect(content, hashlib.sha256(content).hexdigest())
        return [] if found.problem is None else [found.problem]

    return World(root / "a.png", read)


def _archive(root: Path) -> World:
    root.mkdir()
    children = Pool("pelagos_pipelines.sources.archive_members", Limits(1024 * MEBIBYTE, 20, 120, file=2**30))
    into = root / "into"

    def read() -> Sequence[str]:
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir()
        with (root / "archive").open("rb") as file:
            kind = archives.kind_in(file.fileno()) or "tar"
            folder = os.open(into, os.O_RDONLY | os.O_DIRECTORY)
            try:
                children.run("unpack", {"kind": kind, "files": 100, "size": 2**24}, file=file.fileno(), into=folder)
            except (TaskRefusedError, LimitError):
                pass  # the error may name members of the archive
            finally:
                os.close(folder)
        assert {path.name for path in root.iterdir()} == {"archive", "into"}
        assert not any(path.is_symlink() for path in into.rglob("*"))
        return []

    return World(root / "archive", read)


def _checkpoint(root: Path) -> World:
    root.mkdir()
    children = Pool("pelagos_pipelines.training.extraction", Limits(512 * MEBIBYTE, 20, 120))

    def read() -> Sequence[str]:
        try:
            tensor_files.read(
                memoryview(children.run("weights", {"harmless": ["ultralytics."]}, (root / "weights").read_bytes()).raw)
            )
        except (TaskRefusedError, LimitError) as refusal:
            # Code has names, which people may see.
            return [re.sub(r"(?<=run or build )[A-Za-z0-9_., ]+(?=;)", "", str(refusal))]
        return []

    return World(root / "weights", read)


def _package(root: Path) -> World:
    root.mkdir()

    def read() -> Sequence[str]:
        try:
            packages.read(root)
        except packages.RefusedError as refusal:
            return [str(refusal)]
        return []

    return World(root / packages.DESCRIPTION, read)


def _request(root: Path) -> World:
    root.mkdir()

    def read() -> Sequence[str]:
        try:
            PreparationRequest.model_validate_json((root / "request").read_bytes())
        except ValidationError as refusal:
            return [
                str(error["loc"]) for error in refusal.errors(include_input=False) if error["type"] != "extra_forbidden"
            ]
        return []

    return World(root / "request", read)


def _version(root: Path, file: str) -> World:
    version = dataset_versions.write(root / "store", dataset_versions.detection(root / "source", 3))

    def read() -> Sequence[str]:
        versions.read(version.folder)
        return []

    (version.folder / file).chmod(0o600)
    return World(version.folder / file, read)


def _capture(root: Path, name: str, **wanted: str) -> World:
    """The metadata of two images in a table, an iFDO or the image itself."""
    for image in ("a.jpg", "b.jpg"):
        photo(root / image)
    asked = CaptureSource.model_validate({"pattern": "{site}.jpg", **wanted})

    def read() -> Sequence[str]:
        tree = volume.collect(VolumeSource(path="."), root)
        images = tuple(ImageRecord(path, label="cod") for path in tree.images)
        taken = applying.applied(Collection(Task.CLASSIFICATION, ("cod",), images), tree, asked, lambda path: True)
        assert {image.path for image in taken.collection.images} == set(tree.images)
        return [*taken.warnings, *(one for found in taken.findings.counted for one in found.first)]

    return World(root / name, read)


TARGETS: dict[str, Callable[[Path], World]] = {
    "coco": _coco,
    "voc": _voc,
    "cvat": lambda root: _tool(root, cvat.FORMAT, "annotations.xml"),
    "labelstudio": lambda root: _tool(root, label_studio.FORMAT, "tasks.json"),
    "biigle": lambda root: _tool(root, biigle.FORMAT, "a.csv"),
    "ecotaxa": lambda root: _tool(root, ecotaxa.FORMAT, "a.tsv", Task.CLASSIFICATION),
    "labelbox": lambda root: _tool(root, labelbox.FORMAT, "a.ndjson"),
    "ifdo": lambda root: _tool(root, ifdo.FORMAT, "a.yaml"),
    "ifdo_json": lambda root: _tool(root, ifdo.FORMAT, "a.json"),
    "masks": _masks,
    "via": lambda root: _tool(root, via.FORMAT, "a.json"),
    "capture_csv": lambda root: _capture(root, "s.csv", **{"from": "Csv", "file": "s.csv"}),
    "capture_ifdo": lambda root: _capture(root, "s.yaml", **{"from": "Ifdo", "file": "s.yaml"}),
    "exif": lambda root: _capture(root, "a.jpg", **{"from": "Exif"}),
    "taxa": _taxa,
    "answers": _answers,
    "labels": lambda root: _yolo(root, "labels/a.txt"),
    "settings": lambda root: _yolo(root, "data.yaml"),
    "classes": lambda root: _yolo(root, "classes.txt"),
    "listing": lambda root: _yolo(root, "train.txt"),
    "image": _image,
    "archive": _archive,
    "checkpoint": _checkpoint,
    "package": _package,
    "request": _request,
    "version": lambda root: _version(root, "manifest.json"),
    "annotations": lambda root: _version(root, "annotations.json"),
}


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("target", TARGETS)
def test_whatever_a_file_holds_is_read_or_refused_without_a_word_of_it(tmp_path: Path, target: str) -> None:
    world = TARGETS[target](tmp_path / "world")
    seeds = [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]
    for seed in seeds:
        world.look(seed)
    end = time.monotonic() + SECONDS / (3 if target in TOOLS else 1)
    for turn in _turns(end):
        _explore(world, seeds, turn, end)


def _turns(end: float) -> Iterator[int]:
    turn = 0
    while time.monotonic() < end:
        yield turn
        turn += 1


def _explore(world: World, seeds: Sequence[bytes], turn: int, end: float) -> None:
    """One turn of Hypothesis, reproducible by its seed. A failing input is shrunk and shown."""

    @hypothesis.seed(turn)
    @settings(
        max_examples=50,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @hypothesis.given(st.sampled_from(seeds), EDITS)
    def look(seed: bytes, edits: Sequence[Edit]) -> None:
        if time.monotonic() > end:
            return
        content = seed
        for edit in edits:
            content = edit.made(content)
        world.look(content)

    look()


def test_every_target_has_seeds_and_every_seed_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
