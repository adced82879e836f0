"""A model's card, and its entries for catalogues: known facts, missing ones by name, and nothing made up."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

import described_models
import untrusted_text
from pelagos_contract.metrics import Kind
from pelagos_contract.model_card import Card
from pelagos_pipelines.describing import card, catalogues
from pelagos_pipelines.describing.facts import Facts

ROOT = Path(__file__).parents[2]
METADATA = Path(os.environ.get("PELAGOS_ENVIRONMENTS", ROOT / ".venvs")) / "metadata/bin"
HOSTILE = (
    "| x | y |\n# heading\n<img src=http://evil.example/x onerror=alert(1)> [a](javascript:alert(1)) ![b](http://evil.example)"
    " https://evil.example www.evil.example me@evil.example <https://evil.example> `c` **d** ~~e~~ ```\n---\n1. f\n- g"
    + untrusted_text.HOSTILE
)


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def shown(markdown: str) -> Elements:
    """The card as a Markdown viewer renders it that accepts HTML, tables and strikethrough."""
    return Elements(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))


def test_a_card_says_what_the_model_is_for_of_what_it_is_and_how_good() -> None:
    text = card.written(described_models.facts())

    seen = shown(text)
    titles = ["Intended use", "Data", "Metrics", "Slices of the test split: site", "Limits", "Training", "Energy"]
    assert [f"## {title}" in text for title in titles] == [True] * len(titles)
    for words in (
        "Counting fish, by people who check what it says.",
        "Not tried at night.",
        "jo@example.org",
        "Intervals are at the 95% level, by bootstrap over 14 groups by site",
        "0.410 to 0.580",
        "1.234",
        "confidence of cod",
        "12 W for each busy core (Green Algorithms)",
        "Mitchell et al.",
        f"sha256:{'ab12' * 16}",
        f"sha256:{'e' * 64}",
    ):
        assert words in seen.words
    links = [attributes["href"] for tag, attributes in seen.found if tag == "a"]
    assert links == ["https://git.example.org/bay/fish", "https://doi.org/10.5281/zenodo.1234567"]
    assert "Missing in this card" not in text


def test_what_nobody_has_said_is_named_as_missing_and_not_made_up() -> None:
    text = card.written(described_models.unsaid())

    assert "Not stated by its creators." in text
    assert "| mAP50 | undefined |" in text
    assert "## Energy" not in text
    assert "how much is chance is unknown" in text, "that there are no intervals"
    (missing,) = (line for line in text.splitlines() if line.startswith("Missing in this card"))
    for name in ("spec.card.intendedUse", "spec.card.license", "spec.metadata.license", "DOI"):
        assert name in missing


def hostile_facts() -> Facts:
    said = Card.model_construct(
        title=HOSTILE, summary=HOSTILE, intended_use=HOSTILE, limitations=HOSTILE, citation=HOSTILE
    )
    known = described_models.facts((HOSTILE, "cod", f"{HOSTILE}2"), site=HOSTILE)
    about = known.about.model_copy(update={"card": said})
    request = known.request.model_copy(update={"about": about})
    return replace(known, request=request, warnings=[HOSTILE], environment={HOSTILE: HOSTILE})


def test_names_and_texts_of_strangers_stay_text() -> None:
    usual, seen = shown(card.written(described_models.facts())), shown(card.written(hostile_facts()))

    assert {tag for tag, _ in seen.found} <= {tag for tag, _ in usual.found}
    links = {attributes["href"] for tag, attributes in seen.found if tag == "a"}
    assert links == {"https://doi.org/10.5281/zenodo.1234567"}
    counted = [
        Counter(tag for tag, _ in each.found if tag in {"h1", "h2", "h3", "table", "hr", "pre"})
        for each in (usual, seen)
    ]
    assert counted[0] == counted[1], "no heading, rule or table came from a name"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("1. one", "1\\. one"),
        ("0.586", "0.586"),
        ("- a", "\\- a"),
        ("mAP50-95", "mAP50-95"),
        ("http://x", "http:\\//x"),
    ],
)
def test_only_what_means_something_in_markdown_is_escaped(text: str, want: str) -> None:
    assert card.plain(text) == want


def test_a_login_in_an_address_is_not_told() -> None:
    assert "password" not in card.link("https://user:password@git.example.org/fish")
    assert card.link("https://git.example.org/fish") == "<https://git.example.org/fish>"


def test_slices_are_named_as_people_wrote_them_with_their_images_the_worst_first() -> None:
    facts = described_models.facts(site="Bay/5%")

    found = facts.parts(Kind.SLICE)["site"]

    assert [(part.name, part.images) for part in found] == [("Bay/5%", 12), ("reef", 28)]
    left_out = facts.parts(Kind.LEFT_OUT)["site"]
    assert [part.name for part in left_out] == ["mean of all groups", "Bay/5%", "reef"]
    assert left_out[0].values["mAP50"].value == 0.35


def test_a_group_that_is_called_as_the_mean_is_told_beside_it() -> None:
    left_out = described_models.facts(site="mean of all groups").parts(Kind.LEFT_OUT)["site"]

    values = [(part.name, part.values["mAP50"].value) for part in left_out]
    assert values == [("mean of all groups", 0.35), ("mean of all groups", 0.2 - 0.1), ("reef", 0.7 - 0.1)]


def test_why_there_are_no_intervals_is_said() -> None:
    known = described_models.facts()
    why = {"by": "site", "groups": 1, "level": 0.95, "samples": 0, "why": "all images are of one site"}
    facts = replace(known, state={**known.state, "intervals": {}, "resampling": why})

    assert "No intervals: all images are of one site." in card.written(facts)


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def with_code() -> Facts:
    """Hostile text in all fields, with the one further fact that the schema requires."""
    known = hostile_facts()
    said = known.card.model_copy(update={"source_code": "https://git.example.org/x"})
    about = known.about.model_copy(update={"card": said})
    return replace(known, request=known.request.model_copy(update={"about": about}))


@pytest.mark.parametrize("known", [described_models.facts, with_code])
def test_the_tool_of_ai4os_takes_what_is_written_for_it(known: Callable[[], Facts], tmp_path: Path) -> None:
    """The tool also maps it to MLDCAT-AP, and the result says the same as our own."""
    facts = known()
    path, ours = tmp_path / "ai4-metadata.yml", tmp_path / "mldcat-ap.jsonld"
    path.write_text(catalogues.ai4_metadata(facts), encoding="utf-8")
    ours.write_text(json.dumps(catalogues.mldcat_ap(facts)), encoding="utf-8")

    run(METADATA / "ai4-metadata", "validate", path)
    theirs = json.loads(run(METADATA / "ai4-metadata", "map", "mldcat-ap", "--output-format", "jsonld", path))
    statements = json.loads(run(METADATA / "python", ROOT / "tests/mldcat_program.py", ours))

    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert written["links"]["dataset"] == "https://doi.org/10.5281/zenodo.1234567"
    model, it6 = f"urn:sha256:{'e' * 64}", "http://data.europa.eu/it6/"
    told = {(predicate, value) for subject, predicate, value in statements if subject == model}
    assert ("http://www.w3.org/1999/02/22-rdf-syntax-ns#type", f"{it6}{theirs['type']}") in told
    assert ("http://purl.org/dc/terms/title", theirs["title"]) in told
    tasks = {value.rpartition("/")[2] for predicate, value in told if predicate == f"{it6}hasTaskType"}
    assert tasks == {each["uri"] for each in theirs["tasks"]}
    assert (f"{it6}trainedOn", theirs["links"]["dataset"]["uri"]) in told
    assert (f"{it6}hasRepository", theirs["links"]["source_code"]["uri"]) in told
    values = [value for _, predicate, value in statements if predicate == "http://www.w3.org/ns/mls#hasValue"]
    assert [float(value) for value in values].count(0.5) == 1, (
        "mAP50 with all its digits; what is undefined is not there"
    )


def test_without_the_address_of_its_code_there_is_no_ai4_metadata_and_the_field_is_named() -> None:
    assert catalogues.lacking(described_models.unsaid()) == ["spec.card.sourceCode"]
    assert catalogues.lacking(described_models.facts()) == []


def test_a_catalogue_says_nothing_of_what_nobody_has_said() -> None:
    document: dict[str, Any] = catalogues.mldcat_ap(described_models.unsaid())
    (model,) = document["@graph"]
    absent = {"dct:license", "it6:hasRepository", "dct:bibliographicCitation", "dcat:contactPoint"}
    assert not absent & model.keys()
    assert model["mls:hasQuality"] == []
    assert model["it6:trainedOn"][0]["@id"] == f"urn:sha256:{'ab12' * 16}"
