"""Draws a sheet of examples of a declared augmentation, for people to look at before they train.

Called by the step prepare. The family that trains the task draws the sheet, with the code of its trainings, in a separate
process: a training framework takes seconds and hundreds of megabytes to load, which a preparation without an augmentation should
not pay for. That process decodes images itself, as trainings do. The preparation has decoded the same images in a child with
ceilings before, and digests are compared.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

from pelagos_contract import disk, extensions, families
from pelagos_contract.augmentation import LARGEST_SHEET, SHEET_BEGINS, Augmentation
from pelagos_pipelines.annotations import masks, shapes
from pelagos_pipelines.annotations.model import ImageRecord
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.evaluation import ground_truth
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.preparation.judging.page import AlteredExamples
from pelagos_pipelines.preparation.locks import PARTIAL
from pelagos_pipelines.preparation.versions import Version
from pelagos_pipelines.serving import geometry
from pelagos_pipelines.training.altering import Altered, Examples

if TYPE_CHECKING:
    from pelagos_pipelines.training.altering import Augmenting

SHOWN, ROUNDS = 4, 6
"""Images on the sheet, and altered versions of each."""
OTHERS = 12
"""Additional images that may become parts of mosaics."""
SIDE, GAP, APART = 160, 4, 16
"""Pixels: the side of a picture, the gap between two, and the extra gap after the column of unaltered images."""
PAPER = 246
LARGEST_PIXELS = 100_000_000
"""The most pixels of an image that may be on the sheet."""
SECONDS = 240
SEED = 14
_COLOURS = ((178, 114, 0), (0, 159, 230), (115, 158, 0), (0, 94, 213), (167, 121, 204), (233, 180, 86), (66, 228, 240))
"""Colours of boxes by class, blue channel first: the palette of Okabe and Ito."""


@dataclass(frozen=True)
class _Wanted:
    """The request to the drawing process, sent as JSON."""

    family: str
    labels: Sequence[str]
    augmentation: Mapping[str, Any]
    size: int
    color: str | None
    samples: Sequence[Mapping[str, Any]]


def drawn(version: Version) -> AlteredExamples | None:
    """Examples of the augmentation that the version declares; None if it declares none, or no family of its task augments.

    If the sheet cannot be drawn it is empty, and the reason is logged: no version fails for it.
    """
    family = _family(version)
    if version.augmentation is None or family is None:
        return None
    chosen = list(_chosen(version))
    samples = [
        {
            "name": sample.name,
            "file": str(sample.file.resolve()),
            "sha256": sample.sha256,
            "classIds": sample.class_ids.tolist(),
            "boxes": sample.boxes.tolist(),
            "shapes": [shape.document() for shape in sample.shapes],
        }
        for sample in chosen
    ]
    size = family.image_size or families.image_size(family.architectures[0])
    color = version.preprocessing.color
    wanted = _Wanted(family.name, version.collection.classes, version.augmentation.written(), size, color, samples)
    words = [f"{name} {str(value).lower()}" for name, value in version.augmentation.listed().items()]
    return AlteredExamples(family.name, words, _asked(wanted, version.folder.parent))


def _family(version: Version) -> families.FamilyDescription | None:
    """The first family that trains the task and supports declared augmentation."""
    return next((one for one in families.FAMILIES if one.task is version.collection.task and one.augments), None)


def _chosen(version: Version) -> Iterator[Sample]:
    """Samples for the sheet, chosen by a seed: first images that show as many classes as possible, then others."""
    training = [image for image in version.collection.images if image.split == "train" and _is_small(image)]
    random = np.random.default_rng(SEED)
    order = [training[place] for place in random.permutation(len(training))]
    first: list[ImageRecord] = []
    seen: set[str] = set()
    for image in order:
        if len(first) < SHOWN and image.labels - seen:
            first.append(image)
            seen |= image.labels
    names = {image.path for image in first}
    rest = [image for image in order if image.path not in names]
    for image in [*first, *rest][: SHOWN + OTHERS]:
        yield ground_truth.sample(version, image)


def _is_small(image: ImageRecord) -> bool:
    return 0 < (image.width or 0) * (image.height or 0) <= LARGEST_PIXELS


def _asked(wanted: _Wanted, versions: Path) -> bytes:
    """The PNG that the process draws; empty if it fails.

    The scratch folder has the prefix of partial files, so that the next preparation removes it if this process is killed.
    """
    log = logging.getLogger(__name__)
    with tempfile.TemporaryDirectory(prefix=f"{PARTIAL}sheet-", dir=versions) as folder:
        target = Path(folder, "sheet.png")
        command = [sys.executable, "-m", __name__, folder]
        # Without an accelerator, which trainings may be waiting for. ultralytics writes its settings into the folder.
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "YOLO_CONFIG_DIR": folder}
        try:
            done = subprocess.run(
                command,
                input=json.dumps(vars(wanted)),
                capture_output=True,
                text=True,
                timeout=SECONDS,
                env=environment,
                check=False,
            )
            content = target.read_bytes() if target.exists() and target.stat().st_size <= LARGEST_SHEET else b""
        except (OSError, subprocess.TimeoutExpired):
            log.exception("The sheet of the augmentation cannot be drawn")
            return b""
    if done.returncode != 0 or not content.startswith(SHEET_BEGINS):
        log.error("The sheet of the augmentation cannot be drawn: %s", done.stderr[-2000:])
        return b""
    return content


def main(folder: str) -> None:
    """Read a request from standard input, and draw ``sheet.png`` in the folder."""
    # When memory runs out, the kernel should kill this process rather than its parent, which has more to lose.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    extensions.load(os.environ.get(extensions.VARIABLE, ""), extensions.Plane.DATA)
    _draw(_Wanted(**json.load(sys.stdin)), folder)


def _draw(wanted: _Wanted, folder: str) -> None:
    from pelagos_pipelines.training.families import FAMILIES

    family = cast("Augmenting", FAMILIES.named(wanted.family).load())
    samples = [_sample(one, wanted.color) for one in wanted.samples]
    place = Path(folder, "images")
    place.mkdir()
    shown = min(SHOWN, len(samples))
    examples = Examples(samples, wanted.labels, shown, ROUNDS, wanted.size, SEED, place)
    rows = list(family.altered(Augmentation.model_validate(wanted.augmentation), examples))
    disk.write_atomically(Path(folder, "sheet.png"), sheet(samples[:shown], rows, wanted.size))


def _sample(found: Mapping[str, Any], color: str | None) -> Sample:
    boxes = np.array(found["boxes"], float).reshape(-1, 4)
    drawn_in = tuple(map(Shape.restored, found["shapes"]))
    class_ids = np.array(found["classIds"], int)
    return Sample(found["name"], Path(found["file"]), class_ids, boxes, found["sha256"], color, shapes=drawn_in)


def sheet(samples: Sequence[Sample], rows: Sequence[Sequence[Altered]], size: int) -> bytes:
    """The sheet as PNG: a row for each image, unaltered and then altered, with boxes or outlines drawn."""
    lines = [[_as_it_is(sample, size), *altered] for sample, altered in zip(samples, rows, strict=True)]
    columns = max(map(len, lines))
    width, height = columns * (SIDE + GAP) - GAP + APART, len(lines) * (SIDE + GAP) - GAP
    paper: Any = np.full((height, width, 3), PAPER, np.uint8)
    for row, line in enumerate(lines):
        for column, one in enumerate(line):
            top, left = row * (SIDE + GAP), column * (SIDE + GAP) + (APART if column else 0)
            paper[top : top + SIDE, left : left + SIDE] = _picture(one)
    return bytes(cv2.imencode(".png", paper)[1].tobytes())


def _as_it_is(sample: Sample, size: int) -> Altered:
    pixels = sample.pixels()
    height, width = pixels.shape[:2]
    at = geometry.fit(width, height, size, stride=size)
    scale, corner = np.array([at.width / width, at.height / height]), np.array([at.left, at.top])
    boxes = sample.boxes * np.tile(scale, 2) + np.tile(corner, 2)
    outlines = [np.reshape(ring, (-1, 2)) * scale + corner for shape in sample.shapes for ring in _rings(shape)[:1]]
    return Altered(geometry.place(pixels, at), boxes, sample.class_ids, outlines)


def _rings(shape: Shape) -> list[tuple[float, ...]]:
    if shape.kind is Kind.MASK:
        return masks.rings_of(shape)
    outline = shapes.outlined(shape)
    return [] if outline is None else [ring for ring, _ in outline.outlines]


def _picture(one: Altered) -> Any:
    height, width = one.pixels.shape[:2]
    picture = cv2.resize(one.pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    scale = np.array([SIDE / width, SIDE / height])
    rings = one.outlines or [box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2) for box in one.boxes]
    for number, ring in zip(one.class_ids, rings, strict=False):
        points = (ring * scale).round().astype(np.int32)
        cv2.polylines(picture, [points], True, _COLOURS[int(number) % len(_COLOURS)], 1, cv2.LINE_AA)
    return picture


if __name__ == "__main__":
    main(sys.argv[1])
