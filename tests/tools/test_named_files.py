"""Files that pages and samples name exist, for everyone who has cloned the repository and run `make samples`."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SAMPLES = Path(os.environ.get("PELAGOS_SAMPLES", ROOT / ".pelagos/data/samples"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))

    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_the_repository_that_commands_name_are_there(page: Path) -> None:
    commands = re.findall(r"^\$ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    named = [
        path for command in commands for path in re.findall(r"(?<![\w/.])(?:manifests|tools|tests)/[\w./-]+", command)
    ]

    assert [path for path in named if not (ROOT / path).exists()] == []


def test_images_that_commands_name_are_among_the_samples() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"\$PELAGOS_HOME/data/samples/([\w./-]+)", text))

    assert named
    assert [path for path in named if not (SAMPLES / path).is_file()] == []


def test_sources_of_the_sample_resources_are_among_the_samples() -> None:
    documents = [
        document
        for file in sorted((ROOT / "manifests/samples").glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
    ]
    paths = [document["spec"]["source"]["volume"]["path"] for document in documents if document["kind"] == "Dataset"]

    assert paths
    assert [path for path in paths if not (SAMPLES.parent / path).exists()] == []
