"""Writes doubted labels for people: a JSON list, and a sheet of pictures. Called by the step evaluate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import orjson
from matplotlib.patches import Rectangle

from pelagos_contract import disk
from pelagos_contract.splits import Split
from pelagos_contract.text import shown
from pelagos_pipelines.evaluation import examples, figures
from pelagos_pipelines.evaluation.doubts import Doubt, Kind
from pelagos_pipelines.evaluation.samples import Sample

LIST, SHEET = "doubtful-labels.json", "doubtful-labels.png"
MOST = 500
"""Most doubts of each kind in the list, clearest first."""
MOST_CONFUSED = 50
PICTURED = 16
"""Number of pictures, alternating between the kinds."""
MARGIN = 0.5
"""Margin shown around a box, relative to its size."""
_TOLD = {Kind.OTHER_CLASS: "is it", Kind.NOT_ANNOTATED: "not annotated:", Kind.NOT_FOUND: "nothing found"}


def write(
    doubts: Sequence[Doubt],
    held_out: Mapping[Split, Sequence[Sample]],
    labels: Sequence[str],
    folder: Path,
    **more: str,
) -> None:
    """Write both files to ``folder``; doubts index the images of ``held_out``, split by split. The list begins with ``more``.

    Raises:
        OSError, FullError: for example a full disk.
    """
    images = [(split, sample) for split, samples in held_out.items() for sample in samples]
    by_kind = {kind: [one for one in doubts if one.kind is kind] for kind in Kind}
    document = {
        **more,
        "images": len(images),
        "labels": sum(len(sample.class_ids) for _, sample in images),
        "doubted": len(doubts),
        "byKind": {kind.value: len(ones) for kind, ones in by_kind.items() if ones},
        "confused": _confused(doubts, labels),
        "listed": MOST,
        "doubts": [_entry(one, images, labels) for ones in by_kind.values() for one in ones[:MOST]],
    }
    disk.write_atomically(folder / LIST, orjson.dumps(document, option=orjson.OPT_INDENT_2), parents=True)
    if doubts:
        _draw(_in_turn(list(by_kind.values())), images, labels, folder / SHEET)


def _confused(doubts: Sequence[Doubt], labels: Sequence[str]) -> list[dict[str, Any]]:
    """The most frequent pairs of a label and the different class that the model suggests, with their counts."""
    counts = Counter((one.label, one.suggested) for one in doubts if one.kind is Kind.OTHER_CLASS)
    return [
        {"label": shown(labels[label or 0]), "suggested": shown(labels[suggested or 0]), "labels": count}
        for (label, suggested), count in counts.most_common(MOST_CONFUSED)
    ]


def _entry(one: Doubt, images: Sequence[tuple[Split, Sample]], labels: Sequence[str]) -> dict[str, Any]:
    split, sample = images[one.sample]
    told: dict[str, Any] = {
        "image": shown(sample.name),
        "split": split,
        "kind": one.kind.value,
        "label": None if one.label is None else shown(labels[one.label]),
        "suggested": None if one.suggested is None else shown(labels[one.suggested]),
        "sure": round(one.sure, 3),
    }
    if one.box is not None:
        left, top, right, bottom = one.box
        told["box"] = [round(side, 1) for side in (left, top, right - left, bottom - top)]
    return told


def _in_turn(kinds: Sequence[Sequence[Doubt]]) -> list[Doubt]:
    """Alternate between the kinds, clearest first, with each image only once as long as there are others."""
    ranked = [(place, number, one) for number, ones in enumerate(kinds) for place, one in enumerate(ones[:PICTURED])]
    drawn: Counter[int] = Counter()
    turns: list[tuple[int, int, int, Doubt]] = []
    for place, number, one in sorted(ranked, key=lambda entry: entry[:2]):
        turns.append((drawn[one.sample], place, number, one))
        drawn[one.sample] += 1
    return [one for *_, one in sorted(turns, key=lambda turn: turn[:3])][:PICTURED]


def _draw(doubts: Sequence[Doubt], images: Sequence[tuple[Split, Sample]], labels: Sequence[str], path: Path) -> None:
    with mpl.rc_context({**figures.STYLE, "axes.grid": False}):
        figure, tiles = examples.grid(len(doubts))
        for axes, one in zip(tiles, doubts, strict=True):
            split, sample = images[one.sample]
            axes.imshow(sample.pixels()[..., ::-1])
            if one.box is not None:
                _frame(axes, one)
            axes.set_title(f"{_worded(one, labels)}\n{split}: {figures.shortened(Path(sample.name).name)}", fontsize=8)
        figure.suptitle(
            "Labels of validation and test that the model doubts, the clearest first", fontweight="bold", fontsize=12
        )
        figures.save(figure, path)


def _frame(axes: Any, one: Doubt) -> None:
    """Draw the box, dashed if it is an annotation, with its surroundings."""
    assert one.box is not None
    left, top, right, bottom = one.box
    is_annotation = one.kind is not Kind.NOT_ANNOTATED
    for colour, width in (("black", 2.8), (examples.TRUTH if is_annotation else examples.WRONG, 1.6)):
        look: dict[str, Any] = {"linestyle": "--" if is_annotation and colour != "black" else "-", "linewidth": width}
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, **look))
    reach = max(right - left, bottom - top, 8) * (0.5 + MARGIN)
    across, down = (left + right) / 2, (top + bottom) / 2
    axes.set(xlim=(across - reach, across + reach), ylim=(down + reach, down - reach))


def _worded(one: Doubt, labels: Sequence[str]) -> str:
    names = [figures.shortened(labels[class_id], 16) for class_id in (one.label, one.suggested) if class_id is not None]
    if one.kind is Kind.OTHER_CLASS:
        return f"{names[0]}: {_TOLD[one.kind]} {names[1]}?"
    return f"{_TOLD[one.kind]} {names[0]}" if one.kind is Kind.NOT_ANNOTATED else f"{names[0]}: {_TOLD[one.kind]}"
