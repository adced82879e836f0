"""Renders the report as one HTML page that loads nothing from outside, whatever the names in it are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pelagos_contract.balancing import Balanced
from pelagos_contract.judgement import CLASSES, SPLITS_OF_CLASSES, Leakage, Link, slice_picture
from pelagos_contract.splits import SPLITS
from pelagos_pipelines import pages
from pelagos_pipelines.pages import words
from pelagos_pipelines.preparation import leakage, pictures
from pelagos_pipelines.preparation.judging import balance, charts, drawing, slices
from pelagos_pipelines.preparation.judging.disagreeing import Pair
from pelagos_pipelines.preparation.judging.figures import Figures
from pelagos_pipelines.preparation.judging.samples import Sheet
from pelagos_pipelines.preparation.judging.sketch import Figure
from pelagos_pipelines.preparation.judging.tables import Tables
from pelagos_pipelines.preparation.judging.unusual import Unusual


@dataclass(frozen=True)
class AlteredExamples:
    """Examples of an augmentation: the family that drew them, the declared values, and the PNG, empty if none could be drawn."""

    family: str
    declared: Sequence[str]
    png: bytes


@dataclass(frozen=True)
class Content:
    """Everything that a page shows. ``sheets`` are by class, ``charts`` by name; ``named`` has figures by their labels."""

    version: str
    task: str
    tables: Tables
    named: Mapping[str, object]
    warnings: Sequence[str]
    figures: Sequence[Figures]
    unusual: Sequence[Unusual]
    charts: Mapping[str, Figure]
    sheets: Mapping[int, Sheet] = field(default_factory=dict)
    unusual_sheet: Sheet | None = None
    pairs: Sequence[Pair] = ()
    pair_sheets: Sequence[Sheet | None] = ()
    balanced: Balanced | None = None
    altered: AlteredExamples | None = None
    leaks: Leakage | None = None
    leaking: Mapping[Link, Sequence[tuple[leakage.Pair, Sheet | None]]] = field(default_factory=dict)


def rendered(content: Content) -> str:
    """The HTML of the page."""
    parts = (
        _top(content),
        _classes(content),
        balance.section(content.balanced),
        _altered(content.altered),
        _boxes(content),
        _leaks(content),
        _pairs(content),
        _slices(content),
        _samples(content),
        _method(),
    )
    return pages.rendered("Dataset report", itertools.chain.from_iterable(parts))


def _top(content: Content) -> Iterator[str]:
    yield f"<h1>Dataset report</h1><p class=note>{words(content.task)}, version <code>{words(content.version)}</code></p>"
    yield '<div class="tiles">'
    for name, value in content.named.items():
        yield f'<div class="tile"><b>{words(value)}</b>{words(name)}</div>'
    yield "</div>"
    if content.warnings:
        yield "<h2>What a careful reader should know</h2>"
        yield from (f'<p class="said">{words(warning)}</p>' for warning in content.warnings)


def _classes(content: Content) -> Iterator[str]:
    tables = content.tables
    table, totals = tables.by_class_and_split, tables.by_class
    yield "<h2>Classes and splits</h2>"
    if totals.size and totals.sum():
        yield (
            f"<p>Classes: {len(totals)}; by how evenly they are shown they weigh as much as {slices.effective(totals):.1f}"
            f" equally large ones ({slices.effective(totals, 1):.1f} where rare ones count for more).</p>"
        )
    if len(totals) > charts.MOST_CLASSES:
        half = charts.MOST_CLASSES // 2
        yield f'<p class="note">Shown are the {half} largest and the {half} rarest classes.</p>'
    yield from _chart(content, CLASSES)
    yield '<p class="note">Images that show each class, and how many of them in train / validation / test.</p>'
    splits = np.bincount(tables.splits[tables.splits >= 0], minlength=len(SPLITS))
    yield "<table><tr><th>split</th><th class=n>images</th><th class=n>share</th><th class=n>classes shown</th></tr>"
    for number, split in enumerate(SPLITS):
        share = splits[number] / max(int(splits.sum()), 1)
        yield (
            f"<tr><td>{split}</td><td class=n>{splits[number]}</td><td class=n>{share:.1%}</td>"
            f"<td class=n>{int((table[:, number] > 0).sum())} of {len(totals)}</td></tr>"
        )
    yield "</table>"
    yield from _chart(content, SPLITS_OF_CLASSES)
    yield '<p class="note">Images of each class (rows) by split; framed: none.</p>'


def _chart(content: Content, name: str) -> Iterator[str]:
    if name in content.charts:
        yield f'<div class="wide">{content.charts[name].svg}</div>'


def _altered(examples: AlteredExamples | None) -> Iterator[str]:
    if examples is None:
        return
    yield f"<h2>Augmentation</h2><p>Declared: {words('; '.join(examples.declared))}. The rest is as the family has it.</p>"
    if not examples.png:
        yield "<p>Examples could not be drawn; the log of the preparation says why.</p>"
        return
    width, height = pictures.size(examples.png)
    yield pages.picture(examples.png, "Training images before and after augmentation", width, height)
    yield (
        "<p class=note>On the left training images as they are, beside each what trainings of"
        f" {words(examples.family)} make of it in six epochs, by the code that they run. Where nobody would recognise an"
        " organism, the values are too high.</p>"
    )


def _boxes(content: Content) -> Iterator[str]:
    sizes = content.tables.sizes
    yield "<h2>Sizes and positions</h2>"
    yield from _image_sizes(sizes)
    if not len(content.tables.boxes):
        return
    yield '<div class="pair">'
    for name, told in charts.MAPS.items():
        yield f"<figure>{content.charts[name].svg}<figcaption>{told}</figcaption></figure>"
    yield "</div>"
    if content.unusual:
        yield from _unusual(content)


def _image_sizes(sizes: npt.NDArray[np.int32]) -> Iterator[str]:
    found, counts = np.unique(sizes, axis=0, return_counts=True)
    if not len(found):
        return
    order = np.argsort(-counts, kind="stable")[:8]
    names = [f"{found[place][0]} x {found[place][1]}" for place in order]
    parts = counts[order][:, None]
    if len(found) == 1:
        yield f"<p>All images have {names[0]} pixels.</p>"
        return
    widths, heights = sizes[:, 0], sizes[:, 1]
    yield (
        f"<p>{len(found)} different sizes of images, from {widths.min()} to {widths.max()} pixels in width (half of them below"
        f" {np.median(widths):.0f}) and from {heights.min()} to {heights.max()} in height (half of them below"
        f" {np.median(heights):.0f}).</p>"
    )
    if counts.max() == 1:
        return
    yield "<p>The most frequent ones:</p>"
    figures = [f"{count} ({count / max(len(sizes), 1):.1%})" for count in counts[order]]
    yield drawing.bars(names, parts, {"images": drawing.BAR}, figures, "Most frequent image sizes in pixels").svg


def _unusual(content: Content) -> Iterator[str]:
    tables, sheet = content.tables, content.unusual_sheet
    yield f"<h3>{len(content.unusual)} annotations are of a size or shape that is unusual for their class</h3>"
    yield '<p class="note">Often a slip of the mouse, or another class. The most unusual ones:</p>'
    if sheet is not None:
        yield pages.picture(sheet.png, "Annotations of unusual size", sheet.width, sheet.height)
    shown = {one.box: None for one in sheet.drawn} if sheet is not None else {}
    rows = [one for one in content.unusual if one.row in shown]
    if not rows:
        return
    yield "<table><tr><th>image</th><th>class</th><th class=n>size of the class's median</th></tr>"
    for one in rows:
        image, label = tables.box_of[one.row]
        yield (
            f"<tr><td>{words(tables.images[image].path)}</td><td>{words(tables.classes[label])}</td>"
            f"<td class=n>{one.times:.3g} times</td></tr>"
        )
    yield "</table>"


_LINKS = {
    Link.SHARED_GROUP: "of one group",
    Link.DUPLICATE: "duplicates",
    Link.NEAR_DUPLICATE: "near duplicates",
    Link.CLOSE_IN_TIME: "taken within a minute",
    Link.ADJACENT_NAME: "adjacent by name",
}


def _leaks(content: Content) -> Iterator[str]:
    """The section about leakage, with pictures of pairs that belong together and are in two splits."""
    told = content.leaks
    if told is None:
        return
    yield "<h2>Leakage between splits</h2>"
    if not told.found:
        yield "<p>No group, duplicate, near duplicate, minute or series of names is in more than one split.</p>"
        return
    yield (
        f"<p>{told.leaked} of {told.evaluated} images of validation and test share a group with, repeat, or look like an image of"
        " a split before theirs. A model may know them by heart, and its figures say too much.</p>"
        "<table><tr><th>what</th><th class=n>images</th><th>of</th><th>with some of</th><th class=n>groups</th></tr>"
    )
    for one in told.found:
        yield (
            f"<tr><td>{_LINKS[Link(one.kind)]}</td><td class=n>{one.images}</td><td>{words(one.split)}</td>"
            f"<td>{words(one.other)}</td><td class=n>{'' if one.groups is None else one.groups}</td></tr>"
        )
    yield "</table>"
    if any(one.kind == Link.CLOSE_IN_TIME for one in told.found):
        yield '<p class="note">Taken within a minute at one site: not counted as a leak. split.gap keeps splits apart.</p>'
    if any(one.kind == Link.ADJACENT_NAME for one in told.found):
        yield f'<p class="note">{_neighbors(told)}</p>'
    for link, pairs in content.leaking.items():
        yield f"<h3>Pairs: {_LINKS[link]}</h3><table>"
        for pair, sheet in pairs:
            yield _row(sheet, list(zip(pair.splits, (pair.path, pair.other), strict=True)), _apart(pair))
        yield "</table>"


def _neighbors(told: Leakage) -> str:
    if told.neighbors is None:
        return (
            "Adjacent by name: names differ only in a running number, next to each other. It is not counted as a leak."
        )
    share = float(told.neighbors)
    means = "as frames of a recording do" if share >= leakage.FRAMES else "so that these numbers tell little"
    return (
        f"Adjacent by name: names differ only in a running number, next to each other. Such images look more alike"
        f" than two others in {share:.0%} of comparisons (chance: 50%), {means}. It is not counted as a leak."
    )


def _row(sheet: Sheet | None, lines: Sequence[tuple[str, str]], apart: str = "") -> str:
    """A table row of two pictures, with a line about each beside them."""
    shown = pages.picture(sheet.png, "both images", sheet.width, sheet.height) if sheet is not None else ""
    both = "<br>".join(f"<b>{words(told)}</b>: {words(path)}" for told, path in lines)
    return f"<tr><td>{shown}</td><td>{both}{apart}</td></tr>"


def _apart(pair: leakage.Pair) -> str:
    """The distance of the two images, in looks and in time."""
    told = [f"distance {pair.distance:.1f}"] if pair.distance is not None else []
    told += [f"{pair.seconds:g} s apart"] if pair.seconds is not None else []
    return f"<br>{', '.join(told)}" if told else ""


def _pairs(content: Content) -> Iterator[str]:
    if not content.pairs:
        return
    images = content.tables.images
    yield f"<h2>{len(content.pairs)} images look like one that says something else</h2>"
    yield "<p>One of the two labels is likely wrong: of the images, or of the boxes that are shown.</p>"
    if len(content.pairs) > len(content.pair_sheets):
        yield f'<p class="note">The first {len(content.pair_sheets)} of them:</p>'
    yield "<table>"
    for pair, sheet in zip(content.pairs, content.pair_sheets, strict=False):
        places = zip(pair.told, (pair.first, pair.second), strict=True)
        yield _row(sheet, [(told, images[place].path) for told, place in places])
    yield "</table>"


def _slices(content: Content) -> Iterator[str]:
    yield "<h2>Slices</h2>"
    if not content.figures:
        yield "<p>Nothing is known of the images by which they could be told apart: no groups, and one size.</p>"
        return
    yield (
        "<p>What a model learns of a class holds where it has seen it. A class that is missing from a slice, or a slice that has"
        " few images, is where it may fail without anybody noticing.</p>"
    )
    for figures in content.figures:
        yield from _slice(content, figures)


def _slice(content: Content, figures: Figures) -> Iterator[str]:
    one, most = figures.slice, charts.MOST_VALUES
    yield f"<h3>{words(one.name)}</h3><p>{words(figures.told)}</p>"
    counts = one.counts
    names, known = one.values[:most], max(int(counts.sum()), 1)
    parts = counts[: len(names), None]
    told = [f"{count} ({count / known:.1%})" for count in parts[:, 0]]
    bars = drawing.bars(names, parts, {"images": drawing.BAR}, told, f"Images by {one.name}")
    yield f'<div class="wide">{bars.svg}</div>'
    if len(one.values) > most:
        yield f'<p class="note">The {most} largest of {len(one.whole)} values.</p>'
    yield from _chart(content, slice_picture(one.name))
    yield f'<p class="note">Images of each class (rows) by {words(one.name)}; framed: none.</p>'


def _samples(content: Content) -> Iterator[str]:
    if not content.sheets:
        return
    yield "<h2>Samples</h2>"
    yield '<p class="note">Chosen by chance. Whoever knows the classes sees here what no figure tells.</p>'
    for number, sheet in content.sheets.items():
        name = content.tables.classes[number]
        yield f"<h3>{words(name)}</h3>"
        yield pages.picture(sheet.png, f"Samples of {name}", sheet.width, sheet.height)


def _method() -> Iterator[str]:
    yield (
        "<h2>How to read the figures</h2>"
        "<p>Effective number: so many equally large parts would be as uneven (Hill's numbers; of order 2, the inverse of"
        " Simpson's index).</p><p>Dependence: Cramer's V, corrected for bias, from 0 (none) to 1 (the slice tells the class). p:"
        f" how often one so strong comes about by chance, found by dealing out the values anew {slices.SHUFFLES} times; images of"
        " a group are dealt to together. So it needs neither large expected counts nor images that show one class each. A small"
        " p says that there is a dependence, V says whether it is strong enough to matter.</p>"
        "<p>Boxes are unusual when the logarithm of their area, or of height by width, is more than 3.5 robust standard"
        " deviations from the median of their class (median absolute deviation; Iglewicz and Hoaglin, 1993).</p>"
    )
