"""Writes the report of a version into the folder ``report`` beside its files: a page, and its pictures as PNG."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from pelagos_contract import disk
from pelagos_contract.augmentation import SHEET
from pelagos_contract.balancing import Balanced
from pelagos_contract.judgement import FOLDER, PAGE, Link, SliceFigures
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.annotations.model import ImageRecord
from pelagos_pipelines.preparation import leakage
from pelagos_pipelines.preparation.integrity import inspector_for
from pelagos_pipelines.preparation.judging import charts, disagreeing, figures, page, samples, slices, tables, unusual
from pelagos_pipelines.preparation.judging.page import AlteredExamples, Content
from pelagos_pipelines.preparation.judging.tables import Tables
from pelagos_pipelines.preparation.versions import Version
from pelagos_pipelines.sandbox.ceilings import Ceilings

_PAGE = PAGE.rpartition("/")[2]
_SHEET = SHEET.rpartition("/")[2]
MOST_LEAKS = 12
"""The most pairs of each link between splits that get pictures."""
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Known:
    """Information beyond the version itself: leakage between splits, the balance, and examples of the augmentation."""

    leaks: leakage.Found | None = None
    balanced: Balanced | None = None
    altered: AlteredExamples | None = None


@dataclass(frozen=True)
class Made:
    """A written report: the path of its page, and the figures of its slices."""

    page: Path
    slices: Sequence[SliceFigures]


def make(
    version: Version,
    counted: Mapping[str, object],
    warnings: Sequence[str],
    alike: Mapping[str, Sequence[str]] = MappingProxyType({}),
    known: Known = Known(),
) -> Made:
    """Write the report of ``version``. ``counted`` has figures of its preparation, by their labels.

    ``alike`` has by path the images that one looks like; ``known`` has further content.

    The same version gives the same report. An existing report is written again, because its preparation may know more.

    Raises:
        OSError: a file could not be written, for example because the disk is full.
    """
    content = _drawn(_counted(version, counted, warnings, known), version, alike, known.leaks)
    folder = version.folder / FOLDER
    for name, png in _pictures(content):
        disk.write_atomically(folder / name, png, parents=True)
    disk.write_atomically(folder / _PAGE, page.rendered(content), parents=True)
    return Made(folder / _PAGE, [one.document for one in content.figures])


def _counted(version: Version, counted: Mapping[str, object], warnings: Sequence[str], known: Known) -> Content:
    """The content that needs no image to be decoded."""
    images = version.collection.images
    found = tables.of(version.collection, slices_of(images))
    groups = slices.numbered([image.group for image in images])
    told = [figures.of(found, one, groups) for one in found.slices]
    return Content(
        version=f"sha256:{version.digest}",
        task=version.collection.task.value,
        tables=found,
        named=_named(found) | dict(counted),
        warnings=warnings,
        figures=told,
        unusual=unusual.boxes(found),
        charts=charts.of(found, told),
        balanced=known.balanced,
        altered=known.altered,
        leaks=None if known.leaks is None else known.leaks.figures,
    )


def _drawn(
    content: Content, version: Version, alike: Mapping[str, Sequence[str]], leaks: leakage.Found | None
) -> Content:
    """The content with all sheets of small pictures added."""
    images, found = version.collection.images, content.tables
    inspector = inspector_for(Ceilings.read())

    def sheet(wanted: Sequence[samples.Wanted]) -> samples.Sheet | None:
        return samples.sheet(wanted, lambda index: version.blobs[images[index].path], inspector)

    sheets = {number: sheet(wanted) for number, wanted in samples.of_classes(found).items()}
    # A tenth of the pictures that the sheets of classes may have.
    most = max(samples.FEWEST, min(unusual.MOST, samples.affordable_pictures(found) // 10))
    pairs = disagreeing.pairs(images, alike)
    places = {image.path: samples.Wanted(place) for place, image in enumerate(images)}
    return replace(
        content,
        sheets={number: one for number, one in sheets.items() if one is not None},
        unusual_sheet=sheet([samples.around(found, one.row) for one in content.unusual[:most]]),
        pairs=pairs,
        pair_sheets=[sheet(_both(found, pair)) for pair in pairs[: min(most, disagreeing.MOST)]],
        leaking={
            link: [(pair, sheet([places[pair.path], places[pair.other]])) for pair in shown[: min(most, MOST_LEAKS)]]
            for link, shown in (_shown(leaks) if leaks is not None else {}).items()
        },
    )


def _pictures(content: Content) -> Iterator[tuple[str, bytes]]:
    """The pictures beside the page, by file name."""
    for name, chart in content.charts.items():
        yield name, chart.png
    for number, one in content.sheets.items():
        yield f"samples-{number:04}-{_UNFIT.sub('-', content.tables.classes[number])[:60]}.png", one.png
    if content.unusual_sheet is not None:
        yield "unusual.png", content.unusual_sheet.png
    for number, pair in enumerate(content.pair_sheets):
        if pair is not None:
            yield f"alike-{number:02}.png", pair.png
    if content.altered is not None and content.altered.png:
        yield _SHEET, content.altered.png
    for link, shown in content.leaking.items():
        for number, (_, both) in enumerate(shown):
            if both is not None:
                yield f"leak-{link.value}-{number:02}.png", both.png


def _both(found: Tables, pair: disagreeing.Pair) -> list[samples.Wanted]:
    if pair.parts is None:
        return [samples.Wanted(pair.first), samples.Wanted(pair.second)]
    return [samples.beside(found, *one) for one in zip((pair.first, pair.second), pair.parts, strict=True)]


def _shown(leaks: leakage.Found) -> Mapping[Link, Sequence[leakage.Pair]]:
    """Pairs worth showing. Neighbours by name are shown unless it is known that they look no more alike than others."""
    is_known = leaks.figures.neighbors is not None and float(leaks.figures.neighbors) < leakage.FRAMES
    return {link: pairs for link, pairs in leaks.pairs.items() if link is not Link.ADJACENT_NAME or not is_known}


def slices_of(images: Sequence[ImageRecord]) -> dict[str, list[str | None]]:
    """The properties by which images are sliced, each with its value for every image. Constant properties are left out."""
    found: dict[str, list[str | None]] = {"group": [image.group for image in images]}
    if folders := _folders(images):
        found["folder"] = folders
    captures = [image.capture or Capture() for image in images]
    # Month and hour are in local time, which animals follow. If the clock's offset is unknown it is UTC, and a warning says so.
    for name in ("site", "deployment", "platform", "month", "hour"):
        found[name] = [getattr(one, name) for one in captures]
    found["depth band"] = [one.depth_band for one in captures]
    found["image size"] = [_size(image) for image in images]
    return {name: values for name, values in found.items() if len({value for value in values if value is not None}) > 1}


def _folders(images: Sequence[ImageRecord]) -> list[str | None]:
    """The folder of each image; empty if folders only repeat groups or classes, or mostly hold single images."""
    folders = [image.path.rpartition("/")[0] for image in images]
    several = len({*folders})
    labels = {(folder, label) for folder, image in zip(folders, images, strict=True) for label in image.labels}
    groups = {(folder, image.group) for folder, image in zip(folders, images, strict=True)}
    is_class = len(labels) <= several
    is_group = len(groups) == several == len({image.group for image in images})
    return [] if is_class or is_group or 2 * several > len(images) else list(folders)


def _size(image: ImageRecord) -> str | None:
    """The image's class of area, in steps of a factor of about 4."""
    if not image.width or not image.height:
        return None
    megapixels = image.width * image.height / 1e6
    steps = ((0.016, "below 0.016"), (0.0625, "0.016 to 0.06"), (0.25, "0.06 to 0.25"), (1, "0.25 to 1"), (4, "1 to 4"))
    words = next((words for bound, words in steps if megapixels < bound), "4 and more")
    return f"{words} megapixels"


def _named(found: Tables) -> dict[str, object]:
    counts = found.by_class
    largest, smallest = (int(counts.max()), int(counts.min())) if counts.size else (0, 0)
    ratio = f"{largest / smallest:.3g} : 1" if smallest else "infinite"
    boxes = {"annotations": len(found.boxes)} if len(found.boxes) else {}
    return {"images": len(found.images), **boxes, "classes": len(found.classes), "largest to rarest class": ratio}
