"""Files that people and hosting sites expect in a repository exist, agree with the code, and run what CI runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
PAGES = (
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
)


def of(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_a_citation_has_what_its_schema_requires_and_names_no_person() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = of("CITATION.cff")

    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["authors"] == [{"name": "the Pelagos authors"}]


def test_the_hosted_workflow_runs_what_ci_runs() -> None:
    (job,) = of(".github/workflows/ci.yml")["jobs"].values()

    assert job["steps"][-1]["run"] == ".ci/run"
    assert job["container"]["image"] == "debian:12"
    assert [step for step in job["steps"] if "continue-on-error" in step or "if" in step] == []


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_an_issue_form_is_one_that_hosting_sites_read(form: Path) -> None:
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.stem == "config":
        assert content == {"blank_issues_enabled": True}
        return
    assert content.keys() == {"name", "description", "labels", "body"}
    names = [field["id"] for field in content["body"] if field["type"] != "markdown"]
    assert len(names) == len(set(names)) > 0
    for field in content["body"]:
        assert field["type"] in {"markdown", "textarea", "input", "dropdown"}
        assert field["attributes"]["value" if field["type"] == "markdown" else "label"]
        assert field["type"] != "dropdown" or field["attributes"]["options"]


def test_the_changelog_begins_with_what_is_not_released_and_has_known_parts() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## (.+)$", text, re.MULTILINE)

    assert releases[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", release) for release in releases[1:])
    parts = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= parts


def test_targets_of_make_that_pages_name_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        (page.name, word)
        for page in PAGES
        for words in re.findall(r"(?:^\$ |`)make ((?:[a-z-]+ ?)+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        for word in words.split()
    }

    assert ("README.md", "demo") in named
    assert {(page, word) for page, word in named if word not in targets} == set()
