"""Figures of an evaluation as PNG files. Colours are those of Okabe and Ito, which colour-blind people can distinguish."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

mpl.use("Agg")
from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.text import Text

from pelagos_contract import disk
from pelagos_contract.text import shown, spelt

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", ":", "-.")
NAMED_CURVES = 12
"""Most curves with a colour and a legend entry; all others are grey, as a longer legend would be unreadable."""
NUMBERED_CLASSES = 25
DPI = 120
BACKGROUND = "background"
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # labels are users' text, not mathematical markup
}


_OWN = "DejaVu Sans"
_WIDER = ("Noto Sans", "Source Han Sans", "WenQuanYi", "IPA", "Takao", "Droid Sans Fallback", "Unifont")
"""Prefixes of font families with letters that matplotlib's own font lacks, such as those of Chinese and Japanese."""


def families() -> list[str]:
    """The installed font families for text; each letter is drawn in the first family that has it."""
    there = {each.name for each in font_manager.fontManager.ttflist}
    return [_OWN, *sorted(name for name in there if name.startswith(_WIDER))]


@lru_cache(maxsize=64)
def _letters(family: str) -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont(family)).get_charmap())


def has_letter(character: str) -> bool:
    """Whether a font has the character; spaces need none."""
    return character.isspace() or any(ord(character) in _letters(family) for family in mpl.rcParams["font.family"])


def unwritten(words: Iterable[str]) -> list[str]:
    """The words that figures show escaped, because no font has all of their letters."""
    return [each for each in words if not all(map(has_letter, shown(each)))]


_set_text = Text.set_text


def _set_shown_text(self: Text, words: object) -> None:
    _set_text(self, words if words is None else spelt(shown(str(words), lines=True), has_letter))


# All text of figures passes through this method; tick labels are set again whenever a figure is drawn.
Text.set_text = _set_shown_text  # type: ignore[method-assign, assignment]
mpl.rcParams["font.family"] = families()


def confusion(matrix: npt.NDArray[np.int64], labels: Sequence[str], title: str, unit: str, folder: Path) -> None:
    """Draw a confusion matrix: rows are true classes, columns predictions; colour is the share of the row, numbers count
    ``unit``.

    The row named background has no colour: it has the predictions without a true object, for which shares are undefined.
    """
    count = len(labels)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shares[[label == BACKGROUND for label in labels]] = 0
    side = min(max(4.5, 2.2 + 0.55 * count), 22)
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = plt.subplots(figsize=(side + 1.2, side))
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
        names = [shortened(label) for label in labels]
        axes.set_xticks(range(count), names, rotation=45 if count > 3 else 0, ha="right" if count > 3 else "center")
        axes.set_yticks(range(count), names)
        axes.set(xlabel="predicted class", ylabel="true class")
        axes.set_title(f"{title}\nnumbers count {unit}")
        if count <= NUMBERED_CLASSES:
            for row, column in np.argwhere(matrix > 0):
                colour = "white" if shares[row, column] > 0.55 else "black"
                axes.text(column, row, matrix[row, column], ha="center", va="center", color=colour)
        save(figure, folder / "confusion-matrix.png")


def precision_recall(
    curves: Mapping[str, tuple[Any, Any]], areas: Mapping[str, float], condition: str, folder: Path
) -> None:
    """Draw precision over recall for every class with a curve (``curves``: recall, precision), with its average precision."""
    drawn = sorted((label for label in curves if np.isfinite(areas[label])), key=lambda label: -areas[label])
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.5, 5.2))
        for index, label in enumerate(drawn):
            recall, precision = curves[label]
            axes.plot(
                recall, precision, drawstyle="steps-post", **_look(index, f"{shortened(label)}  {areas[label]:.2f}")
            )
        mean = float(np.mean([areas[label] for label in drawn])) if drawn else 0.0
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03), xlabel="recall", ylabel="precision")
        axes.set_title(f"Precision and recall on the test split ({condition})")
        if drawn:
            heading = f"average precision, mean {mean:.2f}"
            axes.legend(title=heading, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
        save(figure, folder / "precision-recall.png")


def by_confidence(
    confidences: npt.NDArray[np.float64],
    curves: Mapping[str, Any],
    means: Mapping[str, Any],
    chosen: float,
    condition: str,
    folder: Path,
) -> None:
    """Draw F1 over the confidence threshold for every class that has it, and ``means`` over classes by metric, including F1.

    A line marks the ``chosen`` confidence; all curves are sampled at ``confidences``.
    """
    at = int(np.searchsorted(confidences, chosen)) if np.isfinite(chosen) else 0
    drawn = sorted(
        (label for label in curves if np.isfinite(curves[label]).any()), key=lambda label: -curves[label][at]
    )
    with mpl.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(12.5, 4.8), sharey=True)
        for index, label in enumerate(drawn):
            left.plot(confidences, curves[label], **_look(index, f"{shortened(label)}  {curves[label][at]:.2f}"))
        left.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03), xlabel="least confidence", ylabel="F1")
        left.set_title("F1 of classes")
        for index, (name, values) in enumerate(means.items()):
            known = f"{name}  {values[at]:.2f}" if np.isfinite(values[at]) else name
            right.plot(confidences, values, color=PALETTE[index], linestyle=STYLES[index], linewidth=2, label=known)
        right.set(xlim=(-0.01, 1.01), xlabel="least confidence", title="Means over classes")
        if drawn:
            for axes in (left, right):
                axes.axvline(chosen, color="0.35", linewidth=1, zorder=1)
                axes.legend(
                    title=f"at confidence {chosen:.2f}",
                    loc="upper left",
                    bbox_to_anchor=(0, -0.16),
                    ncols=3,
                    frameon=False,
                    fontsize=8,
                )
        figure.suptitle(f"Metrics by confidence on the test split ({condition})", fontweight="bold", fontsize=12)
        save(figure, folder / "f1-curve.png")


def _look(index: int, name: str) -> dict[str, Any]:
    """The style of a class's curve; only the first ``NAMED_CURVES`` have a colour and a name."""
    if index >= NAMED_CURVES:
        return {"color": "0.75", "linewidth": 1, "zorder": 1}
    colour, style = PALETTE[index % len(PALETTE)], STYLES[index // len(PALETTE)]
    return {"color": colour, "linestyle": style, "linewidth": 2, "label": name}


def learning_curves(
    epochs: Sequence[tuple[int, Mapping[str, float]]], folder: Path, best: int | None = None, planned: int = 0
) -> None:
    """Draw losses and validation metrics over epochs; ``epochs`` are (number, metrics).

    A line marks the ``best`` epoch, whose model is kept, and another the last one if more were ``planned``.
    """
    losses = ("train/loss", "validation/loss")
    names = sorted({name for _, metrics in epochs for name in metrics if name.startswith("validation/")})
    # A metric that the training split has too is a loss or a part of it.
    trained = {name.removeprefix("train/") for _, metrics in epochs for name in metrics if name.startswith("train/")}
    parts = {"validation/loss", *(f"validation/{name}" for name in trained)}
    last = max((number for number, _ in epochs), default=0)
    marks = [(best, f"best epoch {best}, which is kept", ":")] if best is not None else []
    marks += [(last, f"stopped early, after epoch {last} of {planned}", "-")] if 0 < last < planned else []
    with mpl.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
        _lines(left, epochs, losses)
        left.set(title="Loss", xlabel="epoch", ylabel="loss")
        _lines(right, epochs, [name for name in names if name not in parts])
        right.set(title="Validation metrics", xlabel="epoch", ylabel="metric", ylim=(-0.02, 1.02))
        for axes in (left, right):
            axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            drawn = bool(axes.lines)  # a validation split without boxes has no metrics
            for number, words, style in marks if drawn else ():
                # Labelled in one of the two axes only, so that the legend has each mark once.
                label = words if axes is left else None
                axes.axvline(number, color="0.45", linestyle=style, linewidth=1.4, label=label, zorder=1)
            if drawn:
                axes.legend(frameon=False)
        save(figure, folder / "learning-curves.png")


def _lines(axes: Any, epochs: Sequence[tuple[int, Mapping[str, float]]], names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        points = [(number, metrics[name]) for number, metrics in epochs if name in metrics]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                label=name.replace("/", " "),
                color=PALETTE[index % len(PALETTE)],
                linestyle=STYLES[index % len(STYLES)],
                marker="o",
                markersize=3.5,
                linewidth=1.8,
            )


def shortened(label: str, longest: int = 24) -> str:
    """A label, escaped and shortened to fit beside an axis."""
    letters = [spelt(shown(each), has_letter) for each in label]
    if sum(map(len, letters)) <= longest:
        return "".join(letters)
    ends = accumulate(map(len, letters))
    return f"{''.join(each for each, end in zip(letters, ends, strict=True) if end < longest)}…"


def save(figure: Any, path: Path) -> None:
    """Write the figure and release it, since pyplot would keep it in memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with disk.written(path):
            figure.savefig(path, dpi=DPI)
    finally:
        plt.close(figure)
