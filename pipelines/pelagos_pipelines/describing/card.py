"""The card of a model, in Markdown: its purpose, its data, its metrics on which images, and what is unknown.

Sections are those of Mitchell et al., Model Cards for Model Reporting, FAT* 2019, doi:10.1145/3287560.3287596. Missing
information is listed as missing and never invented.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pelagos_contract import identifiers
from pelagos_contract.cost import rounded
from pelagos_contract.metrics import Kind
from pelagos_contract.text import shown
from pelagos_pipelines.describing.facts import Facts, Part, Value, cut, notes, told

MOST_CLASSES, MOST_PARTS, MOST_WARNINGS = 100, 20, 40
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>|~&$^@]")
_BEGINS = re.compile(r"^(?:[#+=:-]|[0-9]+(?=[.)](?:\s|$)))")
"""Line starts that Markdown reads as a heading, a list or a table delimiter."""
_LINKED = re.compile(r"(?<=:)//|(?<=www)\.", re.IGNORECASE)
"""Parts of a URL in a text by which Markdown renderers recognise it as a link."""
_METHOD = (
    "Sections after Mitchell et al., Model Cards for Model Reporting, 2019, https://doi.org/10.1145/3287560.3287596"
)


def plain(text: object) -> str:
    """Untrusted text as one line of Markdown, escaped so that it contains no HTML, links or ends of cells."""
    escaped = _LINKED.sub(r"\\\g<0>", _SPECIAL.sub(r"\\\g<0>", shown(str(text))))
    return _BEGINS.sub(lambda found: f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}", escaped)


def link(address: str | None) -> str:
    """A checked URL as a link; as plain text if it cannot be one safely."""
    told = shown(address or "")  # without a login
    return f"<{told}>" if told == address and not re.search(r"[<>\s|\\]", told) else plain(told)


def prose(text: str) -> str:
    """Untrusted text of several paragraphs, escaped as in ``plain``."""
    return "\n\n".join(plain(part.strip()) for part in text.split("\n") if part.strip())


def written(facts: Facts) -> str:
    """The card as Markdown."""
    sections = (
        _top(facts),
        _use(facts),
        _data(facts),
        _metrics(facts),
        _calibration(facts),
        _parts(facts),
        _limits(facts),
        _training(facts),
        _cost(facts),
        _origin(facts),
    )
    return "\n".join(line for section in sections for line in section) + "\n"


def _top(facts: Facts) -> Iterator[str]:
    said = facts.card
    yield f"# {plain(facts.title)}\n"
    yield f"{plain(facts.summary)}\n"
    yield from _table(
        ("", ""),
        [
            ("Task", plain(facts.request.task.value)),
            ("Architecture", plain(facts.request.model.architecture)),
            ("Classes", f"{len(facts.labels)}"),
            ("Measured on", facts.day),
            ("Licence of the model", plain(said.license or "not stated")),
            ("Contact", _contact(facts)),
            ("Citation", plain(" ".join(said.citation.split())) if said.citation else "not stated"),
            *([("Source code", link(said.source_code))] if said.source_code else []),
        ],
    )


def _contact(facts: Facts) -> str:
    contact = facts.card.contact
    if contact is None:
        return "not stated"
    return plain(", ".join(filter(None, (contact.name, contact.email, contact.url))))


def _use(facts: Facts) -> Iterator[str]:
    yield "\n## Intended use\n"
    yield prose(facts.card.intended_use) if facts.card.intended_use else "Not stated by its creators."


def _data(facts: Facts) -> Iterator[str]:
    said, dataset = facts.dataset, facts.request.dataset
    images = facts.counts.get("images") or {}
    yield "\n## Data\n"
    yield from _table(
        ("", ""),
        [
            ("Dataset", plain(said.title or dataset.name)),
            ("Version", f"`{shown(dataset.version)}`"),
            ("DOI of this version", link(identifiers.url(said.doi)) if said.doi else "not published"),
            *([("DOI of the dataset", link(identifiers.url(said.identifier)))] if said.identifier else []),
            ("Licence", plain(said.license or "not stated")),
            *([("Made by", plain("; ".join(said.creators)))] if said.creators else []),
            *([("Images", plain(", ".join(f"{split} {count}" for split, count in images.items())))] if images else []),
        ],
    )


def _metrics(facts: Facts) -> Iterator[str]:
    yield "\n## Metrics\n"
    yield "On the test split, which no training saw and by which nothing was chosen. Means over classes count every class alike."
    how = f"Intervals are {facts.resampling}" if facts.resampling else facts.without_intervals
    yield f"{plain(how)}.\n"
    rows = [(plain(name), *_cells(value), plain(told(name))) for name, value in facts.overall.items()]
    yield from _table(("Metric", "Value", "Interval", "What it is"), rows)
    names = facts.class_metrics[:4]
    if names:
        yield "\n### Of each class, the worst first\n"
        classes = facts.classes
        yield from _table(
            ("Class", "In test", *map(plain, names)),
            [
                (plain(label), "" if count is None else str(count), *(plain(values[name].words) for name in names))
                for label, count, values in classes[:MOST_CLASSES]
            ],
        )
        if len(classes) > MOST_CLASSES:
            yield f"\nThe worst {MOST_CLASSES} of {len(classes)} classes."


def _calibration(facts: Facts) -> Iterator[str]:
    if facts.calibration:
        yield "\n### What servers apply to scores\n"
        rows = [(plain(name), plain(value)) for name, value in facts.calibration.items()]
        yield from _table(("", ""), rows[: MOST_CLASSES + 2])


def _parts(facts: Facts) -> Iterator[str]:
    titles = {Kind.SLICE: "Slices of the test split", Kind.LEFT_OUT: "Groups that a model did not see"}
    for kind, title in titles.items():
        for field, found in facts.parts(kind).items():
            yield f"\n## {title}: {plain(field)}\n"
            yield from _of(field, found, facts.primary)


def _of(field: str, found: Sequence[Part], primary: str) -> Iterator[str]:
    if said := notes([replace(part, values={primary: part.values.get(primary, Value(None))}) for part in found]):
        yield f"{plain(' '.join(said))}\n"
    rows = [
        (
            plain(part.name),
            "" if part.images is None else str(part.images),
            *_cells(part.values.get(primary, Value(None)), "groups" if part.mean else "seeds"),
        )
        for part in found[:MOST_PARTS]
    ]
    yield from _table((plain(field), "Images", plain(primary), "Interval"), rows)
    if more := cut(found, MOST_PARTS):
        yield f"\n{more}"


def _limits(facts: Facts) -> Iterator[str]:
    yield "\n## Limits\n"
    yield prose(facts.card.limitations) if facts.card.limitations else "Not stated by its creators."
    if facts.warnings:
        yield "\nWarnings of evaluation and preparation:\n"
        yield from (f"* {plain(one)}" for one in facts.warnings[:MOST_WARNINGS])
    if facts.missing:
        yield f"\nMissing in this card: {plain(', '.join(facts.missing))}."


def _training(facts: Facts) -> Iterator[str]:
    yield "\n## Training\n"
    told = {
        "epochs trained": facts.trained.get("epochs", "unknown"),
        "best epoch": facts.trained.get("bestEpoch", "unknown"),
    }
    yield from _table(
        ("Parameter", "Value"), [(plain(n), plain(value)) for n, value in (told | facts.parameters).items()]
    )
    if facts.environment:
        yield "\n### Environment of its export\n"
        yield from _table(("", ""), [(plain(name), plain(value)) for name, value in facts.environment.items()])


def _cost(facts: Facts) -> Iterator[str]:
    cost = facts.cost
    if cost is None:
        return
    yield "\n## Energy\n"
    energy = "unknown" if cost.kilowatt_hours is None else f"{rounded(cost.kilowatt_hours)} kWh"
    carbon = "unknown" if cost.grams is None else f"{rounded(cost.grams)} g, at {cost.grams_per_kwh:g} g per kWh"
    rows = [
        ("Energy", plain(energy)),
        ("CO2 equivalent", plain(carbon)),
        ("How it was found", plain(cost.energy_method)),
    ]
    rows += [("Not in it", plain("; ".join(cost.missing)))] if cost.missing else []
    yield from _table(("", ""), rows)


def _origin(facts: Facts) -> Iterator[str]:
    yield "\n## Where it is from\n"
    rows = [
        ("Model package", f"`sha256:{shown(facts.package)}`"),
        ("ONNX graph", f"`sha256:{shown(facts.onnx)}`"),
        ("Dataset version", f"`{shown(facts.request.dataset.version)}`"),
    ]
    rows += [("Tracked run", f"`{shown(facts.run)}`")] if facts.run else []
    yield from _table(("", ""), rows)
    yield f"\n{_METHOD}."


def _cells(value: Value, over: str = "seeds") -> tuple[str, str]:
    number = "undefined" if value.value is None else f"{value.value:.3f}"
    if value.low is None or value.high is None:
        return plain(number), "" if value.deviation is None else plain(f"± {value.deviation:.3f} over {over}")
    return plain(number), plain(f"{value.low:.3f} to {value.high:.3f}")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in rows)
