"""``pelagos dataset balance``: what an epoch shows of each class, and of each image, or one clear line why there is nothing."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

import builders
from pelagos.api import kinds
from pelagos.cli.main import app
from pelagos.decisions import rules
from resource_servers import ApiServer, api

__all__ = ["api"]

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "balancing.md").read_text(encoding="utf-8")
BALANCE: dict[str, Any] = {
    "strategy": "Undersample",
    "target": 5,
    "counted": "Images",
    "images": 38,
    "shown": 8,
    "mostRepeats": 1,
    "effectiveClasses": ["1.52", "2.67"],
    "effective": "8.0",
    "leftOut": {"reason": "AboveTarget", "images": 30, "first": ["a.png"]},
    "classes": [
        {"name": "cod\u202e", "before": 35, "after": "5", "leftOut": 30},
        {"name": "ray", "before": 2, "after": "2", "leftOut": 0},
    ],
}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["dataset", "balance", *map(str, arguments)])


def status(folder: Path, repeats: Any) -> dict[str, Any]:
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"balance": {"repeats": repeats}}))
    return {"uri": str(folder), "version": "sha256:ab", "balance": BALANCE}


def test_classes_are_shown_before_and_after(api: ApiServer, tmp_path: Path) -> None:
    api.add("fish", status(tmp_path / "v", {}))

    done = run("fish")

    assert done.exit_code == 0, done.output
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["Class", "Before", "After", "Left", "out"],
        ["cod\\u202e", "35", "5", "30"],
        ["ray", "2", "2", "0"],
    ]
    assert "Undersample to 5 images of a class: an epoch shows 8 images, of 38 in the training split" in done.stderr
    assert "and leaves out 30" in done.stderr


def test_images_are_named_with_what_becomes_of_them(api: ApiServer, tmp_path: Path) -> None:
    api.add("fish", status(tmp_path / "v", {"x\u202egnp.png": 3, "a.png": 0}))

    assert run("fish", "--images").stdout.splitlines() == [
        "left out, AboveTarget   a.png",
        "shown 3 times           x\\u202egnp.png",
    ]
    assert json.loads(run("fish", "--images", "-o", "json").stdout)["images"] == [
        {"path": "a.png", "repeats": 0, "reason": "AboveTarget"},
        {"path": "x\u202egnp.png", "repeats": 3},
    ]


@pytest.mark.parametrize("repeats", [7, {"a.png": -1}, {"a.png": "many"}, {"a.png": 101}], ids=str)
def test_what_no_preparation_wrote_is_not_shown(api: ApiServer, tmp_path: Path, repeats: Any) -> None:
    api.add("fish", status(tmp_path / "v", repeats))

    done = run("fish", "--images")

    assert (done.exit_code, done.stdout) == (1, "")
    assert "is not what a preparation wrote" in done.stderr


def test_a_dataset_without_a_balance_says_so(api: ApiServer) -> None:
    api.add("fish", {"version": "sha256:ab"})
    api.add("new", {})

    done = run("fish", "-o", "json")

    assert done.exit_code == 1
    assert "once per epoch: spec.balance is not set" in json.loads(done.stdout)["error"]
    assert "has no version yet" in run("new").stderr


def test_what_the_page_says_is_what_there_is(api: ApiServer, tmp_path: Path) -> None:
    api.add("plankton", status(tmp_path / "v", {"a.png": 0}))
    commands = re.findall(r"(?m)^\$ pelagos dataset balance (.*)$", PAGE)
    assert len(commands) == 2
    assert [run(*shlex.split(line)).exit_code for line in commands] == [0, 0]
    (path,) = re.findall(r"range \.status\.balance\.classes\[\*\]\}(.*?)\{end\}", PAGE)
    assert set(re.findall(r"\{\.([a-zA-Z]+)\}", path)) <= BALANCE["classes"][0].keys()
    pages = PAGE + (DOCS / "augmentation.md").read_text(encoding="utf-8")
    for written in re.findall(r"(?ms)^```yaml\n(.*?)^```", pages):
        spec = kinds.DATASET.spec.model_validate(builders.DATASET | yaml.safe_load(written)["spec"])
        assert rules.violation(spec) is None
