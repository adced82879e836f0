"""The report of a training: one self-contained page, for any reader on any device."""

from __future__ import annotations

import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import pytest

import browser
import described_models
import untrusted_text
from pelagos_contract import model_card
from pelagos_contract.judgement import PAGE_BEGINS
from pelagos_contract.model_card import LARGEST
from pelagos_pipelines.describing import card, page

HOSTILE = "</title><script>document.title='taken'</script><img src=http://evil.example/x>" + untrusted_text.HOSTILE
FIGURES = (*page.CURVES, *page.SHEETS)


class Read(HTMLParser):
    """A page's words, its elements, and every address that a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.rows: list[list[str]] = []
        """The rows of all tables, in order."""
        self.in_table = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "table":
            self.in_table = True
        elif tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data", "action"}]

    def handle_endtag(self, tag: str) -> None:
        self.in_table &= tag != "table"

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.in_table and self.rows[-1]:
            self.rows[-1][-1] += data


def test_a_report_says_all_that_is_known(tmp_path: Path) -> None:
    described_models.draw(tmp_path, FIGURES)

    text = page.made(described_models.facts(), tmp_path)

    read = Read(text)
    said = " ".join(read.words)
    assert text.startswith(PAGE_BEGINS)
    for words in ("0.500", "Interval 0.410 to 0.580, at the 95% level, by bootstrap over 14 groups by site"):
        assert words in said, "the primary metric, with its interval"
    assert "https://doi.org/10.5281/zenodo.1234567" in said
    assert "CC-BY-4.0" in said
    sections = [
        "What it was trained on", "Metrics on the test split", "What servers apply to scores", "Slices",
        "Leave one group out", "Pictures", "Parameters", "Environment of its export", "Cost up to this report",
        "Where it is from", *page.CURVES.values(),
    ]  # fmt: skip
    assert set(sections) <= {*read.words}
    assert len(read.addresses) == len(FIGURES)
    assert all(address.startswith("data:image/webp;base64,") for address in read.addresses)
    assert not read.tags & {"script", "link", "iframe", "object", "form", "base", "a"}
    assert read.words.index("cod") < read.words.index("eel") < len(read.words), "the worst class first"


def test_groups_that_a_model_did_not_see_have_their_images_and_their_mean_its_deviation(tmp_path: Path) -> None:
    """A group may have the same name as the row of the mean, and must stay distinguishable from it."""
    facts = described_models.facts(site="mean of all groups")
    want = [
        ["mean of all groups", "", "0.350 ± 0.354"],
        ["mean of all groups", "130", "0.100 (0.050 to 0.150)"],
        ["reef", "310", "0.600"],
    ]

    read = Read(page.made(facts, tmp_path))

    last = max(number for number, row in enumerate(read.rows) if row == ["site", "images", "mAP50"])
    assert read.rows[last + 1 : last + 4] == want, "the mean, then the worst first"
    assert "After ± is the standard deviation over groups." in " ".join(read.words)
    lines = card.written(facts).splitlines()
    start = lines.index("## Groups that a model did not see: site")
    assert [line for line in lines[start:] if line.startswith("|")][2:5] == [
        "| mean of all groups |  | 0.350 | ± 0.354 over groups |",
        "| mean of all groups | 130 | 0.100 | 0.050 to 0.150 |",
        "| reef | 310 | 0.600 |  |",
    ]


def test_intervals_of_groups_are_none_of_the_test_split(tmp_path: Path) -> None:
    facts = described_models.facts()
    group = "leave-one-out/site/pier/mAP50"
    why = {"by": "site", "groups": 2, "level": 0.95, "samples": 0, "why": "there are 2 different values of site"}
    further = {"intervals": {group: facts.state["intervals"][group]}, "resampling": why}

    said = " ".join(Read(page.made(replace(facts, state={**facts.state, **further}), tmp_path)).words)

    assert "No intervals: there are 2 different values of site." in said
    assert "0.100 (0.050 to 0.150)" in said
    assert "by bootstrap over 2 groups" not in said


def test_what_is_not_known_has_no_section_and_is_never_a_zero(tmp_path: Path) -> None:
    read = Read(page.made(described_models.unsaid(), tmp_path))

    assert "undefined" in read.words
    assert "not stated" in read.words, "the licence"
    assert "No intervals were computed: how much is chance is unknown." in " ".join(read.words)
    assert not {"Slices", "Pictures", "Cost up to this report", "Environment of its export", "Seeds"} & {*read.words}
    assert "0.000" not in read.words


def test_what_a_split_says_nothing_about_is_in_the_table_and_not_at_the_top(tmp_path: Path) -> None:
    known = described_models.facts()
    (name, *_) = [each for each in known.overall if each != known.primary]
    facts = replace(known, state={**known.state, "metrics": {**known.metrics, f"test/{name}": None}})

    top, _, below = page.made(facts, tmp_path).partition("<h2>")
    was, _, _ = page.made(known, tmp_path).partition("<h2>")

    assert (f"</b>{name}</div>" in was, f"</b>{name}</div>" in top) == (True, False)
    assert "undefined" in Read(below).words


def test_an_interval_without_width_is_not_told_as_certainty(tmp_path: Path) -> None:
    known = described_models.facts()
    name = next(each for each in known.state["intervals"] if each.startswith("slice/"))
    alike = {**known.state["intervals"], name: {"low": 1.0, "high": 1.0, "level": 0.95}}

    one = "One without width means that all of these gave the same value, not that others will."
    assert one not in " ".join(Read(page.made(known, tmp_path)).words)
    facts = replace(known, state={**known.state, "intervals": alike})
    assert one in " ".join(Read(page.made(facts, tmp_path)).words)


def test_the_same_facts_are_the_same_bytes(tmp_path: Path) -> None:
    described_models.draw(tmp_path, FIGURES)
    assert page.made(described_models.facts(), tmp_path) == page.made(described_models.facts(), tmp_path)


def test_a_report_stays_small_whatever_there_is_to_show(tmp_path: Path) -> None:
    """Noise compresses worst; there are thousands of classes with the longest names, and as many slices."""
    described_models.draw(tmp_path, FIGURES[:4], side=1700)
    labels = [f"{number} {'w' * 200}" for number in range(3000)]
    facts = described_models.facts(labels)
    slices = {f"slice/site/{number} {'w' * 80}/mAP50": 0.5 for number in range(3000)}
    facts = replace(
        facts, state=dict(facts.state) | {"metrics": dict(facts.metrics) | slices}, warnings=["w" * 2000] * 900
    )

    assert len(page.made(facts, tmp_path).encode()) < LARGEST


def test_pictures_have_what_words_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described_models.draw(tmp_path, FIGURES[:4], side=500)
    facts = replace(described_models.facts(), warnings=["'" * 2000] * 60)
    whole, words = (len(page.made(facts, folder).encode()) for folder in (tmp_path, tmp_path / "none"))
    monkeypatch.setattr(model_card, "LARGEST", (whole + words + page.FRAME) // 2)

    text = page.made(facts, tmp_path)

    assert words < len(text.encode()) < model_card.LARGEST


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(100)])
def test_a_figure_that_is_no_picture_is_left_out(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "worst.png").write_bytes(content)
    assert "Pictures" not in Read(page.made(described_models.facts(), tmp_path)).words


def test_a_small_file_of_billions_of_pixels_is_left_out_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenth of a megabyte that declares and contains 100 million pixels: 300 MB as a picture."""
    side, chunks = 10_000, [b"\x89PNG\r\n\x1a\n"]
    rows = zlib.compress(bytes((1 + side // 8) * side), 1)
    header = side.to_bytes(4) * 2 + bytes((1, 0, 0, 0, 0))
    for name, content in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")):
        chunks += [len(content).to_bytes(4), name, content, zlib.crc32(name + content).to_bytes(4)]
    file = tmp_path / "worst.png"
    file.write_bytes(b"".join(chunks))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))

    assert "Pictures" not in Read(page.made(described_models.facts(), tmp_path)).words
    assert cv2.imread(str(file)).shape == (side, side, 3), "it is one"


@pytest.mark.skipif(not browser.CHROMIUM.exists(), reason="no root")
def test_a_report_asks_nobody_and_is_read_on_a_phone_whatever_names_are_in_it(tmp_path: Path) -> None:
    described_models.draw(tmp_path / "figures", FIGURES[:4], side=1000)
    about = described_models.ABOUT | {"resource": HOSTILE}
    facts = described_models.facts(("w" * 300, HOSTILE, "eel"), about, site=HOSTILE)
    facts = replace(facts, warnings=[HOSTILE, "x" * 400], environment={HOSTILE: "y" * 300})
    path = tmp_path / "report.html"
    path.write_text(page.made(facts, tmp_path / "figures"), encoding="utf-8")

    became, _, hosts = browser.shown(path, tmp_path)

    assert "<title>Training report: Fish of the bay</title>" in became
    assert became.rstrip().endswith("</html>")
    assert "<script" not in became
    assert not [host for host in hosts if not host.endswith(browser.OWN)]
    assert browser.width_on_a_phone(path, tmp_path, 360) <= 360, (
        "nothing is scrolled to the side but within its own frame"
    )
