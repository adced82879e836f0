"""``pelagos report``: the report of a version as a file, or one clear line why there is none."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from object_storage import ObjectStorage
from pelagos.cli.main import app
from pelagos_contract.judgement import PAGE_BEGINS
from resource_servers import ApiServer, api

__all__ = ["api"]

PAGE = f"{PAGE_BEGINS}<title>Dataset report</title></head><body></body></html>"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def version(folder: Path, page: str | None = PAGE) -> dict[str, Any]:
    (folder / "report").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    if page is not None:
        (folder / "report" / "report.html").write_text(page)
    return {"uri": str(folder), "version": "sha256:ab", "versions": [{"version": f"sha256:{folder.name}"}]}


def failure(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removeprefix("Error: ").strip()


def test_the_report_is_written_and_shown(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def show(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", show)
    api.add("fish", version(tmp_path / "ab"))
    target = tmp_path / "out.html"

    done = run("fish", "--to", target, "--open", "-o", "json")

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"dataset": "default/fish", "version": "sha256:ab", "file": str(target)}
    assert target.read_text() == PAGE
    assert opened == [target.as_uri()]


def test_by_default_the_file_is_named_after_the_dataset(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    api.add("fish", version(tmp_path / "ab"))

    assert run("fish").exit_code == 0
    assert (tmp_path / "fish-report.html").read_text() == PAGE


def test_an_earlier_version_can_be_named(api: ApiServer, tmp_path: Path) -> None:
    version(tmp_path / "cd", f"{PAGE}earlier")
    status = version(tmp_path / "ab")
    api.add("fish", status | {"versions": [*status["versions"], {"version": "sha256:cd"}]})

    assert run("fish", "--version", "cd", "--to", tmp_path / "out.html").exit_code == 0
    assert (tmp_path / "out.html").read_text() == f"{PAGE}earlier"


def test_a_report_on_object_storage_is_read_there(
    api: ApiServer, object_storage: ObjectStorage, bucket: str, tmp_path: Path
) -> None:
    object_storage.put(bucket, "objects/versions/ab/report/report.html", PAGE)
    api.add("fish", {"uri": f"s3://{bucket}/objects/versions/ab", "version": "sha256:ab"})

    assert run("fish", "--to", tmp_path / "out.html").exit_code == 0
    assert (tmp_path / "out.html").read_text() == PAGE


def test_what_cannot_be_shown_is_one_line(api: ApiServer, tmp_path: Path) -> None:
    assert failure(run("fish")).startswith("Dataset default/fish not found")
    api.add("new", {})
    assert "has no version yet" in failure(run("new"))
    api.add("elsewhere", {"uri": str(tmp_path / "none")})
    assert "is not visible from this machine" in failure(run("elsewhere"))
    api.add("old", version(tmp_path / "old", None))
    assert "has no report: it was made before versions had one" in failure(run("old"))
    api.add("forged", version(tmp_path / "forged", "<script>alert(1)</script>" + PAGE))
    assert "is not what a preparation wrote" in failure(run("forged", "--to", tmp_path / "out.html"))
    assert not (tmp_path / "out.html").exists()
    api.add("fine", version(tmp_path / "fine"))
    assert failure(run("fine", "--to", tmp_path / "no" / "out.html")).startswith(
        f"--to {tmp_path}/no/out.html: No such file"
    )
