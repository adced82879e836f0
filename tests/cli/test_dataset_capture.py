"""``pelagos dataset capture``: what is unknown about when and where images were taken, or one line why nothing can be shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from pelagos.cli.main import app
from resource_servers import ApiServer, api

__all__ = ["api"]

FINDINGS = (
    {"name": "survey.csv, line 6", "reason": "ImageNotFound"},
    {"name": "cod/x\u202egnp.jpg", "reason": "NotReadable", "field": "time", "place": "survey.csv, line 4"},
)
FIELDS = [{"field": "site", "known": 5, "unknown": 1}, {"field": "time", "known": 4, "unknown": 2}]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["dataset", "capture", *map(str, arguments)])


def version(folder: Path, content: str | None) -> dict[str, Any]:
    (folder / "report").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    if content is not None:
        (folder / "report/capture.jsonl").write_text(content)
    return {"uri": str(folder), "version": "sha256:ab", "images": 6, "capture": {"fields": FIELDS}}


def test_every_finding_is_a_line_behind_what_is_known(api: ApiServer, tmp_path: Path) -> None:
    api.add("reef", version(tmp_path / "v", "".join(json.dumps(one) + "\n" for one in FINDINGS)))

    done = run("reef")

    assert done.exit_code == 0, done.output
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["ImageNotFound", "-", "survey.csv,", "line", "6"],
        ["NotReadable", "time", "cod/x\\u202egnp.jpg", "survey.csv,", "line", "4"],
    ]
    assert done.stderr == (
        "version sha256:ab of default/reef: known are site of 5, time of 4 of 6 images; 2 findings (1 ImageNotFound, 1"
        " NotReadable)\n"
    )
    found = json.loads(run("reef", "-o", "json", "--reason", "NotReadable").stdout)
    assert (found["fields"], found["findings"]) == (FIELDS, [FINDINGS[1]])


def test_what_cannot_be_listed_is_one_line(api: ApiServer, tmp_path: Path) -> None:
    api.add("plain", version(tmp_path / "plain", None))
    api.add("bad", version(tmp_path / "bad", '{"name": 1, "reason": ""}'))
    for name, words in (
        ("none", "Dataset default/none not found"),
        ("plain", "has no such list: it was made without spec.capture"),
        ("bad", "is not what a preparation wrote"),
    ):
        done = run(name)
        assert (done.exit_code, done.stdout) == (1, ""), done.output
        assert words in done.stderr
