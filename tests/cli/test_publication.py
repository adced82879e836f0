"""``pelagos publication``: what is or would be published, what prevents it, and what to write for the next step."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from described_datasets import FULL
from pelagos.cli import publication
from pelagos.cli.main import app
from resource_servers import ApiServer, api

__all__ = ["api"]

VERSION = "sha256:" + "a1" * 32
ZENODO = {"zenodo": {"url": "https://zenodo.org", "secretRef": {"name": "zenodo"}}}
THERE = {
    "version": VERSION,
    "state": "Published",
    "doi": "10.5281/zenodo.7",
    "conceptDoi": "10.5281/zenodo.6",
    "url": "https://zenodo.org/records/7",
    "at": "2026-11-29T10:00:00Z",
    "run": "dataset-1",
}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["publication", *map(str, arguments)], env={"COLUMNS": "200"})


def add(api: ApiServer, reason: str, message: str, *, publish: Any = ZENODO, there: Any = None) -> dict[str, Any]:
    conditions = [
        {"type": "QualityPassed", "status": "True", "message": "spec.quality asks for nothing"},
        {"type": "FairPassed", "status": "True", "message": "83 of 100"},
        {"type": "Published", "status": "False", "reason": reason, "message": message},
    ]
    status = {"version": VERSION, "conditions": conditions, **({"publication": there} if there else {})}
    return api.add("fish", status, spec={"task": "Detection", "metadata": FULL, "publish": publish})


def test_what_is_published_is_shown(api: ApiServer) -> None:
    add(api, "Published", "it is", publish={"zenodo": {**ZENODO["zenodo"], "state": "Published"}}, there=THERE)

    done = run("fish")

    assert done.exit_code == 0, done.output
    assert "Zenodo (https://zenodo.org), as Published, by the Secret zenodo" in done.stdout
    assert "images and annotations as Coco; Ifdo, Croissant, DataCite" in done.stdout
    assert "doi:10.5281/zenodo.7 https://zenodo.org/records/7, of all versions doi:10.5281/zenodo.6" in done.stdout
    assert "FairPassed" in done.stdout


def test_a_draft_is_shown_with_what_has_it_published(api: ApiServer) -> None:
    add(api, "DraftMade", "a draft is there", there={**THERE, "state": "Draft"})

    done = run("fish")

    assert done.exit_code == 0
    assert "as Draft" in done.stdout
    assert "spec.publish.zenodo.state: Published" in done.stderr


def test_a_dataset_that_asks_for_nothing_is_told_how_to_begin(api: ApiServer) -> None:
    add(api, "NotAskedFor", "spec.publish is not set", publish=None)

    done = run("fish")

    assert done.exit_code == 1
    assert "secretRef: {name: zenodo}" in done.stderr


def test_what_is_in_the_way_is_shown_to_programs_too(api: ApiServer) -> None:
    add(api, "RepositoryAccessDenied", "the token has expired")

    done = run("fish", "-o", "json")

    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert (found["done"], found["reason"], found["message"]) == (
        False,
        "RepositoryAccessDenied",
        "the token has expired",
    )
    assert found["asked"]["state"] == "Draft"
    assert found["published"] is None


def test_a_spec_that_cannot_be_read_is_told_by_its_field(api: ApiServer) -> None:
    add(api, "InvalidSpec", "no", publish={"zenodo": {"url": "https://zenodo.org"}})

    done = run("fish", "-o", "json")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"].startswith("spec.publish.zenodo.secretRef: ")


def test_waiting_ends_when_it_is_there_or_the_time_is_over(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publication, "PERIOD", 0.01)
    add(api, "Running", "in progress")
    assert run("fish", "--wait", "0.05").exit_code == 1

    waits = {"spec": {}, "metadata": {}, "status": {"conditions": [{"type": "Published", "reason": "Running"}]}}
    over = {"spec": {}, "metadata": {}, "status": {"conditions": [{"type": "Published", "reason": "Published"}]}}
    left = [waits, waits, over]
    assert publication._waited(lambda: left.pop(0), 60) is over
