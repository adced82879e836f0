"""``pelagos dataset excluded``: every file that is not in the version, as lines or JSON, or one clear line why there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from object_storage import ObjectStorage
from pelagos.cli.main import app
from resource_servers import ApiServer, api

__all__ = ["api"]

LINES = (
    {"path": "cod/2.png", "reason": "Duplicate", "repeats": "cod/1.png"},
    {"path": "cod/3.png", "reason": "Blurred", "measured": 12.4},
    {"path": "cod/x\u202egnp.tif", "reason": "UnreadableType"},
    {"path": "notes.md", "reason": "NotAnImage"},
)
CONTENT = "".join(json.dumps(line) + "\n" for line in LINES)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["dataset", "excluded", *map(str, arguments)])


def failure(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removeprefix("Error: ").strip()


def version(folder: Path, content: str | None = CONTENT) -> dict[str, Any]:
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    if content is not None:
        (folder / "excluded.jsonl").write_text(content)
    return {"uri": str(folder), "version": "sha256:ab", "files": {"found": 12}}


def test_every_file_is_a_line_with_its_reason(api: ApiServer, tmp_path: Path) -> None:
    api.add("fish", version(tmp_path / "v"))

    done = run("fish")

    assert done.exit_code == 0, done.output
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["Duplicate", "cod/2.png", "repeats", "cod/1.png"],
        ["Blurred", "cod/3.png", "measured", "12.4"],
        ["UnreadableType", "cod/x\\u202egnp.tif"],
        ["NotAnImage", "notes.md"],
    ]
    assert done.stderr.startswith("4 of 12 files are not in version sha256:ab of default/fish (1 Duplicate, ")


def test_programs_get_json_and_may_ask_for_one_reason(api: ApiServer, tmp_path: Path) -> None:
    api.add("fish", version(tmp_path / "v"), namespace="bay")

    done = run("fish", "-n", "bay", "-o", "json", "--reason", "Duplicate")

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"dataset": "bay/fish", "version": "sha256:ab", "excluded": [LINES[0]]}


def test_a_version_on_object_storage_is_read_there(api: ApiServer, object_storage: ObjectStorage, bucket: str) -> None:
    object_storage.put(bucket, "objects/versions/ab/excluded.jsonl", CONTENT)
    api.add("fish", {"uri": f"s3://{bucket}/objects/versions/ab", "version": "sha256:ab"})

    done = run("fish", "-o", "json")

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["excluded"] == list(LINES)


def test_what_cannot_be_listed_is_one_line(api: ApiServer, tmp_path: Path) -> None:
    assert failure(run("fish")) == "Dataset default/fish not found; there is none in this namespace"
    api.add("new", {})
    assert failure(run("new")).startswith("Dataset default/new has no version yet")
    api.add("elsewhere", {"uri": str(tmp_path / "none"), "version": "sha256:ab"})
    assert "is not visible from this machine" in failure(run("elsewhere"))
    api.add("old", version(tmp_path / "old", None))
    assert "made before versions listed" in failure(run("old"))
    for number, content in enumerate(("{", "[]\n", '{"path": 1, "reason": ""}', "[" * 5000)):
        api.add(f"bad{number}", version(tmp_path / f"bad{number}", content))
        assert "is not what a preparation wrote" in failure(run(f"bad{number}"))
