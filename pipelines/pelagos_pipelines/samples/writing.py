"""The sample folders on disk: the crops as they are, the composed frames with COCO annotations, and their README."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from pelagos_contract.splits import SPLITS, Split
from pelagos_pipelines.annotations import shapes
from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.samples import formats, frames, organisms, scenes, survey
from pelagos_pipelines.samples.wheel import EXPECTED, Content

SEED = 20
FRAMES: Mapping[Split, int] = {"train": 320, "validation": 64, "test": 64}
QUALITY = 92
"""JPEG quality of the frames; the crops are JPEG, too."""

README = """# Samples

Phytoplankton, imaged by a FlowCam, which photographs particles as they flow by.

| folder | what it is |
|---|---|
| `phytoplankton-crops/` | **Real.** {crops} images in six classes, byte for byte as published. One folder per class. |
| `phytoplankton-frames/` | **Composed.** {frames} frames of {side} x {side} pixels; each organism is cut out of a real crop. |
| `phytoplankton-scenes/` | **Composed.** {scenes} frames like these with organisms at any angle, and the owner of each pixel. |
| `phytoplankton-survey/` | **Composed.** {survey} crops of such frames, from {hauls} hauls at {sites} sites, by class. |
| `formats/` | The first of these frames and crops in every format that is read. Outlines follow the masks within a pixel. |

## What is composed
A FlowCam publishes crops, one organism each; the full frames of these crops are not published. The frames here stand in for them,
so that detection and segmentation can be tried. Real: the organisms' pixels. Made up: where an organism lies, which ones lie
together, its quarter turn, mirroring, scale (85 to 115 %; organisms of less than {smallest:.0f} or more than {largest:.0f} pixels
are brought into that range) and density (85 to 115 %), and the background, which has the brightness, noise and noise correlation
that were measured around the organisms.
Every class appears about equally often. Boxes are the extent of the organism's mask and were not checked by a taxonomist.

The scenes are composed in the same way, but organisms are turned by any angle. Their pictures (COCO's panoptic layout) say of
each pixel to which organism it belongs, or to the water: that is the organism's mask, cut out of its own crop by its contrast,
and turned with it. For OrientedDetection the smallest rectangle around each mask is taken.

The survey has a crop of each organism of such frames, with the water around it. `survey.csv` says for each image at which site
and in which haul (`deployment`) its organism was caught. Sites and hauls are made up: they say which images show the same
organisms, as they do in real surveys. No organism is in two hauls.

**Figures that a model reaches on these frames say that the machinery works. They say nothing about real samples of water.**

## Why test frames are honest
Organisms were divided between training, validation and test, class by class, *before* frames were composed
({division}).
`images[].group` names the part, `images[].organisms` the crops. No organism is in frames of two parts. Split by group:
any other split would show test organisms to the training.

## Source, licence, attribution
Images: demonstration images of planktonclas 0.2.4, Wout Decrop, Flanders Marine Institute (VLIZ), within the project iMagine;
Apache-2.0. Related publication: *Automated image classification workflow for phytoplankton monitoring*,
doi:10.3389/fmars.2025.1699781. The frames derive from these images and are under the same licence (LICENSE.txt).
Composed with seed {seed}.
"""


def write(
    content: Content,
    into: Path,
    sizes: Mapping[Split, int] = FRAMES,
    composed: Mapping[Split, int] = scenes.FRAMES,
    surveyed: int = survey.IMAGES,
) -> None:
    """Write all collections, the licence and, last, the README.

    ``sizes`` and ``composed`` are the numbers of frames with boxes, and with masks, by split; ``surveyed`` is the number of
    images of each haul of the survey.
    """
    crops = content.crops
    log = logging.getLogger(__name__)
    for crop in crops:
        folder = into / "phytoplankton-crops" / crop.label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / crop.name).write_bytes(crop.encoded)
    log.info("wrote %d real images in %d classes", len(crops), len(EXPECTED))
    cut = [organisms.cut_out(crop) for crop in crops]
    divided = organisms.divide(cut, SEED)
    folder = into / "phytoplankton-frames"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    coco, marked = _compose(divided, folder, sizes)
    (folder / "annotations.json").write_text(json.dumps(coco, indent=1) + "\n", encoding="utf-8")
    log.info("composed %d frames with %d organisms", len(coco["images"]), len(coco["annotations"]))
    shown = scenes.write(into / "phytoplankton-scenes", divided, composed)
    log.info("composed %d scenes with %d organisms", sum(composed.values()), shown)
    caught = survey.write(into / "phytoplankton-survey", cut, surveyed)
    log.info("composed a survey of %d images", caught)
    formats.write(into / "formats", marked, formats.of_crops(crops))
    division = ", ".join(f"{len(divided[split])} {split}" for split in SPLITS)
    smallest, largest = frames.EXTENT
    made = {
        "crops": len(crops),
        "frames": len(coco["images"]),
        "scenes": sum(composed.values()),
        "survey": caught,
        "hauls": survey.SITES * survey.HAULS,
        "sites": survey.SITES,
        "side": frames.SIDE,
        "seed": SEED,
    }
    text = README.format(**made, division=division, smallest=smallest, largest=largest)
    (into / "LICENSE.txt").write_bytes(content.licence)
    (into / "README.md").write_text(text, encoding="utf-8")


def _compose(
    divided: Mapping[Split, Sequence[organisms.Organism]], folder: Path, sizes: Mapping[Split, int]
) -> tuple[Any, list[formats.Marked]]:
    """Compose frames. Returns the annotations in COCO, and the first frames of each split with outlines."""
    marked: list[formats.Marked] = []
    ids = {label: index for index, label in enumerate(EXPECTED, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, split in enumerate(SPLITS):
        generator = np.random.default_rng([SEED, number])
        for place, frame in enumerate(frames.compose(divided[split], sizes[split], generator)):
            identifier = len(images) + 1
            name = f"images/frame-{identifier:04d}.jpg"  # the number says nothing about the split: only the group does
            Image.fromarray(frame.pixels).save(folder / name, "JPEG", quality=QUALITY)
            if place < formats.FRAMES[split]:
                found = tuple(map(_outline, frame.placed))
                size = (frames.SIDE, frames.SIDE)
                marked.append(formats.Marked(Path(name).name, (folder / name).read_bytes(), size, split, found))
            images.append(
                {
                    "id": identifier,
                    "file_name": name,
                    "width": frames.SIDE,
                    "height": frames.SIDE,
                    "license": 1,
                    "group": f"organisms-{split}",
                    "organisms": [placed.name for placed in frame.placed],
                }
            )
            annotations += [
                {
                    "id": len(annotations) + index,
                    "image_id": identifier,
                    "category_id": ids[placed.label],
                    "bbox": list(placed.box),
                    "area": placed.box[2] * placed.box[3],
                    "iscrowd": 0,
                    "organism": placed.name,
                }
                for index, placed in enumerate(frame.placed, start=1)
            ]
    coco = {
        "info": {"description": "FlowCam frames composed from real organisms; see ../README.md", "version": "1"},
        "licenses": [{"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": index, "name": label} for label, index in ids.items()],
    }
    return coco, marked


def _outline(placed: frames.Placed) -> Shape:
    """The outline as a person draws it: the organism without debris next to it, with a corner where the line turns."""
    outlines, _ = cv2.findContours(placed.mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    drawn = cv2.approxPolyDP(max(outlines, key=cv2.contourArea), 1.0, True)[:, 0]
    left, top = placed.box[:2]
    return shapes.polygon(placed.label, [float(one) for x, y in drawn for one in (left + x + 0.5, top + y + 0.5)])
