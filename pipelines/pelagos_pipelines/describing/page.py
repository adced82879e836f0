"""The report of a training as a self-contained HTML page. Unknown facts have no section."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pelagos_contract import identifiers, model_card
from pelagos_contract.cost import rounded
from pelagos_contract.metrics import Kind
from pelagos_pipelines import pages
from pelagos_pipelines.describing import pictures
from pelagos_pipelines.describing.facts import Facts, Part, Value, cut, notes, told
from pelagos_pipelines.describing.pictures import Picture
from pelagos_pipelines.evaluation.examples import CONFIDENT_WRONG, SPREAD, WORST
from pelagos_pipelines.pages import words

MOST_TILES = 5
MEANS = ("-micro", "-weighted")
"""Averages that the overview omits, since the means over classes suffice there."""
MOST_CLASSES, MOST_PARTS, MOST_WARNINGS, MOST_ROWS = 300, 60, 60, 120
FRAME = 20_000
"""Bytes reserved for the page's styles, its title, and the text beside pictures."""
NARROW = 900
"""Largest width in pixels of a figure that is readable on a phone as a whole."""
SHEETS = {
    WORST: ("The worst", "Test images that the model gets most wrong, the worst first."),
    CONFIDENT_WRONG: (
        "Wrong and sure",
        "What the model is surest of, but is wrong. Wrong labels also show up here.",
    ),
    SPREAD: ("From best to worst", "Evenly spread over the test split: what to expect."),
}
CURVES = {
    "learning-curves.png": "How the training went",
    "confusion-matrix.png": "What is taken for what",
    "precision-recall.png": "Precision against recall",
    "f1-curve.png": "F1 by confidence",
    "reliability.png": "How far scores can be trusted",
    "slices.png": "Slices, with intervals",
}
"""Figures by their headings; missing ones are skipped."""
_STYLE = """
.big img{min-width:640px}table.facts th{width:11em;font-weight:600}table.facts td,table.facts th{overflow-wrap:anywhere}
.rows th:first-child,.rows td:first-child{position:sticky;left:0;background:#fff}.head{font-size:38px;margin:6px 0 0}
.rows td,.rows th{white-space:nowrap}.rows td:first-child,.rows th:first-child{white-space:normal;min-width:118px;
max-width:220px;overflow-wrap:anywhere}.bar{display:inline-block;height:8px;background:#0072B2;margin-right:6px;vertical-align:1px}
body{overflow-wrap:anywhere}.fixed{white-space:nowrap}
.ok{color:#00664b;font-weight:600}.no{color:#a33f00;font-weight:600}
@media(max-width:600px){body{padding:14px;font-size:14px}h1{font-size:22px}.tile{flex:1 1 40%;padding:6px 10px;min-width:0}
.tile b{font-size:18px}table.facts th{width:38%}.pair{gap:8px}}
"""


def made(facts: Facts, figures: Path) -> str:
    """The page; ``figures`` is the folder of the evaluation's figures."""
    before: tuple[Iterable[str], ...] = (
        _top(facts),
        _warnings(facts),
        _data(facts),
        _metrics(facts),
        _facts("What servers apply to scores", facts.calibration),
        _parts(facts),
    )
    after: tuple[Iterable[str], ...] = (
        _seeds(facts),
        _cost(facts),
        _facts("Parameters", facts.parameters),
        _facts("Environment of its export", facts.environment),
        _origin(facts),
        _method(facts),
    )
    upper, lower = ("".join(itertools.chain.from_iterable(parts)) for parts in (before, after))
    # Pictures get the bytes that the text leaves; base64 turns three bytes into four.
    left = (model_card.LARGEST - FRAME - len(upper.encode()) - len(lower.encode())) * 3 // 4
    files = {name: figures / name for name in (*CURVES, *SHEETS)}
    shown = pictures.read(files, min(pictures.BUDGET, max(left, 0)))
    parts = (upper, *_curves(shown), *_sheets(shown), lower)
    return pages.rendered(f"Training report: {facts.title}", parts, _STYLE)


def _top(facts: Facts) -> Iterator[str]:
    request, name, value = facts.request, facts.primary, facts.primary_value
    yield f"<h1>{words(facts.title)}</h1>"
    said = f"{request.task.value} by {request.model.architecture}, measured on {facts.day}"
    yield f'<p class="note">{words(f"{said}, {facts.about.resource}" if facts.about.resource else said)}</p>'
    yield f'<p class="head"><b>{words("undefined" if value.value is None else f"{value.value:.3f}")}</b></p>'
    yield f"<p>{words(name)} on the test split: {words(told(name) or 'see below')}. {words(_sure(facts, value))}</p>"
    if facts.card.summary:
        yield f"<p>{words(facts.card.summary)}</p>"
    others = [(each, one.value) for each, one in facts.overall.items() if each != name and not each.endswith(MEANS)]
    # Undefined metrics are only in the table below.
    told_of = [(each, known) for each, known in others if known is not None]
    tiles: dict[str, object] = {each: f"{known:.3f}" for each, known in told_of[:MOST_TILES]}
    images = facts.counts.get("images") or {}
    tiles |= {"images to train on": images["train"], "test images": images["test"]} if images else {}
    tiles |= {"classes": len(facts.labels), "epochs": facts.trained.get("epochs", "unknown")}
    yield '<div class="tiles">'
    yield from (f'<div class="tile"><b>{words(value)}</b>{words(name)}</div>' for name, value in tiles.items())
    yield "</div>"


def _sure(facts: Facts, value: Value) -> str:
    if value.low is not None and value.high is not None:
        return f"Interval {value.low:.3f} to {value.high:.3f}, {facts.resampling}."
    if value.deviation is not None:
        return f"Mean of {len(facts.seeds)} seeds, standard deviation {value.deviation:.3f}."
    return f"{facts.without_intervals}."


def _warnings(facts: Facts) -> Iterator[str]:
    if not facts.warnings:
        return
    yield "<h2>What a careful reader should know</h2>"
    yield from (f'<p class="said">{words(one)}</p>' for one in facts.warnings[:MOST_WARNINGS])
    if len(facts.warnings) > MOST_WARNINGS:
        yield f'<p class="note">and {len(facts.warnings) - MOST_WARNINGS} more, in status.warnings.</p>'


def _data(facts: Facts) -> Iterator[str]:
    said, dataset = facts.dataset, facts.request.dataset
    images = facts.counts.get("images") or {}
    rows = {
        "dataset": said.title or dataset.name,
        "name": dataset.name if said.title else "",
        "version": dataset.version,
        "DOI of the version": said.doi and identifiers.url(said.doi),
        "DOI of the dataset": said.identifier and identifiers.url(said.identifier),
        "licence": said.license or "not stated",
        "made by": "; ".join(said.creators),
        "images": ", ".join(f"{split} {count}" for split, count in images.items()),
    }
    yield from _facts("What it was trained on", {name: str(value) for name, value in rows.items() if value})


def _metrics(facts: Facts) -> Iterator[str]:
    yield "<h2>Metrics on the test split</h2>"
    if facts.resampling:
        yield f'<p class="note">In brackets: intervals {words(facts.resampling)}.</p>'
    yield "<table><tr><th>metric</th><th class=n>value</th></tr>"
    for name, value in facts.overall.items():
        more = f'<br><span class="note">{words(told(name))}</span>' if told(name) else ""
        yield f'<tr><td>{words(name)}{more}</td><td class="n fixed">{words(value.words)}</td></tr>'
    yield "</table>"
    names, rows = facts.class_metrics, facts.classes
    if not names:
        return
    yield "<h3>Of each class, the worst first</h3>"
    if len(rows) > MOST_CLASSES:
        yield f'<p class="note">The worst {MOST_CLASSES} of {len(rows)} classes; all are in the tracked run.</p>'
    head = "".join(f"<th class=n>{words(name)}</th>" for name in names)
    yield f'<div class="wide"><table class="rows"><tr><th>class</th><th class=n>in test</th>{head}</tr>'
    for label, count, values in rows[:MOST_CLASSES]:
        cells = "".join(_cell(values[name], barred=name == names[0]) for name in names)
        yield f"<tr><td>{words(label)}</td><td class=n>{'' if count is None else count}</td>{cells}</tr>"
    yield "</table></div>"
    if any(values[names[0]].value is None for _, _, values in rows):
        yield '<p class="note">Undefined: the test split has nothing of the class, so nothing can be said about it.</p>'


def _cell(value: Value, *, barred: bool = False) -> str:
    bar = (
        f'<span class="bar" style="width:{48 * min(max(value.value, 0), 1):.0f}px"></span>'
        if barred and value.value
        else ""
    )
    return f"<td class=n>{bar}{words(value.words)}</td>"


_KINDS = {
    Kind.SLICE: ("Slices", "The same model on parts of the test split; the worst first."),
    Kind.LEFT_OUT: (
        "Leave one group out",
        "For each group a model that never saw it, measured on that group: what to expect of a new one.",
    ),
}


def _parts(facts: Facts) -> Iterator[str]:
    for kind, (title, note) in _KINDS.items():
        fields = facts.parts(kind)
        if not fields:
            continue
        said = notes([part for found in fields.values() for part in found])
        yield f'<h2>{title}</h2><p class="note">{words(" ".join((note, *said)))}</p>'
        for name, found in fields.items():
            yield from _table_of(name, found, facts.primary)


def _table_of(field: str, found: Sequence[Part], primary: str) -> Iterator[str]:
    names = sorted({metric for part in found for metric in part.values}, key=lambda each: (each != primary, each))[:8]
    head = "".join(f"<th class=n>{words(name)}</th>" for name in names)
    counted = "<th class=n>images</th>" if any(part.images is not None for part in found) else ""
    yield f'<div class="wide"><table class="rows"><tr><th>{words(field)}</th>{counted}{head}</tr>'
    for part in found[:MOST_PARTS]:
        cells = "".join(_cell(part.values.get(name, Value(None)), barred=name == names[0]) for name in names)
        images = f"<td class=n>{'' if part.images is None else part.images}</td>" if counted else ""
        yield f"<tr><td>{words(part.name)}</td>{images}{cells}</tr>"
    yield "</table></div>"
    if more := cut(found, MOST_PARTS):
        yield f'<p class="note">{more}</p>'


def _curves(shown: Mapping[str, Picture]) -> Iterator[str]:
    for name, title in CURVES.items():
        if name in shown:
            yield f"<h2>{title}</h2>{_picture(shown[name], title)}"


def _sheets(shown: Mapping[str, Picture]) -> Iterator[str]:
    there = [name for name in SHEETS if name in shown]
    if not there:
        return
    yield "<h2>Pictures</h2>"
    for name in there:
        title, note = SHEETS[name]
        yield f'<h3>{title}</h3><p class="note">{note}</p>{_picture(shown[name], note)}'


def _picture(one: Picture, described: str) -> str:
    # On a phone, a wide figure scrolls in its own frame instead of being shrunk to an unreadable size.
    look = "wide big" if one.width > NARROW else "wide"
    return f'<div class="{look}">{pages.picture(one.webp, described, one.width, one.height, "webp")}</div>'


def _seeds(facts: Facts) -> Iterator[str]:
    if not facts.seeds:
        return
    yield "<h2>Seeds</h2><p class=note>Metrics above are their means; figures and pictures are of the model that is kept.</p>"
    yield '<div class="wide"><table><tr><th class=n>seed</th><th class=n>epochs</th><th class=n>best</th>'
    yield f"<th class=n>{words(facts.primary)}</th><th></th></tr>"
    for one in facts.seeds:
        value = Value(one.metrics.get(f"test/{facts.primary}"))
        kept = "kept" if one.seed == facts.trained.get("seed") else ""
        yield f"<tr><td class=n>{one.seed}</td><td class=n>{one.epochs}</td><td class=n>{one.best_epoch}</td>"
        yield f"{_cell(value)}<td>{kept}</td></tr>"
    yield "</table></div>"


def _cost(facts: Facts) -> Iterator[str]:
    cost = facts.cost
    if cost is None:
        return
    known = {
        "time": f"{rounded(cost.seconds / 3600)} h" if cost.seconds >= 3600 else f"{rounded(cost.seconds)} s",
        "processors": f"{rounded(cost.cpu_seconds / 3600)} core hours",
        "GPUs": "unknown" if cost.gpu_seconds is None else f"{rounded(cost.gpu_seconds / 3600)} hours",
        "energy": "unknown" if cost.kilowatt_hours is None else f"{rounded(cost.kilowatt_hours)} kWh",
        "how it was found": cost.energy_method,
        "CO2 equivalent": "unknown" if cost.grams is None else f"{rounded(cost.grams)} g",
        "per kWh": f"{cost.grams_per_kwh:g} g",
        "attempts": str(cost.attempts),
        "not in it": "; ".join(cost.missing),
    }
    yield from _facts("Cost up to this report", {name: told for name, told in known.items() if told})


def _origin(facts: Facts) -> Iterator[str]:
    told = {
        "model package": f"sha256:{facts.package}",
        "ONNX graph": f"sha256:{facts.onnx}",
        "checkpoint": f"sha256:{facts.trained.get('bestSha256', 'unknown')}",
        "tracked run": facts.run,
    }
    yield from _facts("Where it is from", {name: value for name, value in told.items() if value})


def _facts(title: str, told: Mapping[str, str]) -> Iterator[str]:
    if not told:
        return
    yield f'<h2>{title}</h2><table class="facts">'
    for name, value in itertools.islice(told.items(), MOST_ROWS):
        yield f"<tr><th>{words(name)}</th><td>{words(value)}</td></tr>"
    yield "</table>"


def _method(facts: Facts) -> Iterator[str]:
    yield (
        "<h2>How to read the figures</h2><p>No training saw the test split, and nothing was chosen by it: the best epoch is "
        "chosen on the validation split. Means over classes count every class alike (macro), and leave out those that the split "
        "does not show.</p>"
    )
    if facts.resampling:
        yield (
            "<p>Intervals: whole groups are resampled with replacement, and each metric is computed again (percentile "
            "bootstrap; Efron and Tibshirani, 1993). Images of a group look alike: drawing single images would make intervals "
            "too narrow. An interval without width means that all groups gave the same value, not that others will.</p>"
        )
