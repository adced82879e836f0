"""``pelagos card``, and ``pelagos report`` of a TrainingRun: the files that the training wrote, and no others."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pelagos.cli.main import app
from resource_servers import ApiServer, api

__all__ = ["api"]

CARD, PAGE = "# Finder\n\nFinds fish.\n", "<!DOCTYPE html>\n<title>Training report</title>"

ENDS = {"low": "0.61", "high": "0.89", "level": "0.95"}
GONE = {"name": "model-card.md", "uri": "/nowhere/model-card.md", "sha256": "0"}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def made(folder: Path, **contents: str) -> dict[str, Any]:
    """The status of a TrainingRun whose documents are in a folder."""
    folder.mkdir(parents=True)
    files = {"model-card.md": CARD, "report.html": PAGE} | {
        name.replace("_", "-"): text for name, text in contents.items()
    }
    documents = []
    for name, text in files.items():
        (folder / name).write_text(text)
        documents.append({"name": name, "uri": str(folder / name), "sha256": hashlib.sha256(text.encode()).hexdigest()})
    return {"model": {"uri": str(folder)}, "documents": documents}


def failure(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removeprefix("Error: ").strip()


def test_the_card_is_printed(api: ApiServer, tmp_path: Path) -> None:
    api.add("finder", made(tmp_path / "x"), kind="TrainingRun")

    done = run("card", "finder")

    assert (done.exit_code, done.stdout) == (0, CARD)


def test_a_card_cannot_command_a_terminal(api: ApiServer, tmp_path: Path) -> None:
    api.add("finder", made(tmp_path / "x", **{"model_card.md": "# \x1b[31mFinder"}), kind="TrainingRun")
    assert run("card", "finder").stdout == "# \\u001b[31mFinder"


def test_it_is_written_into_a_file_and_programs_are_told(api: ApiServer, tmp_path: Path) -> None:
    api.add("finder", made(tmp_path / "x"), kind="TrainingRun")

    done = run("card", "finder", "--to", tmp_path / "card.md", "-o", "json")

    told = {"trainingRun": "default/finder", "format": "Markdown", "file": str(tmp_path / "card.md")}
    assert json.loads(done.stdout) == told
    assert (tmp_path / "card.md").read_text() == CARD


def test_what_was_altered_since_is_not_shown(api: ApiServer, tmp_path: Path) -> None:
    api.add("finder", made(tmp_path / "x"), kind="TrainingRun")
    (tmp_path / "x" / "model-card.md").write_text("# The best model of all\n")

    assert "is not what the training wrote" in failure(run("card", "finder"))


def test_why_there_is_no_entry_for_a_catalogue_is_said(api: ApiServer, tmp_path: Path) -> None:
    api.add("finder", made(tmp_path / "x"), kind="TrainingRun")
    assert "set spec.card.sourceCode" in failure(run("card", "finder", "--format", "Ai4Metadata"))


@pytest.mark.parametrize(
    ("status", "want"),
    [
        ({}, "it has made no model yet"),
        ({"model": {"uri": "/x"}}, "it was made before models had one"),
        ({"model": {"uri": "/x"}, "documents": [GONE]}, "not visible"),
    ],
)
def test_what_is_not_there_is_one_line(api: ApiServer, status: dict[str, Any], want: str) -> None:
    api.add("finder", status, kind="TrainingRun")
    assert want in failure(run("card", "finder"))


def test_the_report_of_a_training_is_found_by_its_name(api: ApiServer, tmp_path: Path) -> None:
    api.add("finder", made(tmp_path / "x"), kind="TrainingRun")

    done = run("report", "finder", "--to", tmp_path / "out.html", "-o", "json")

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"trainingRun": "default/finder", "file": str(tmp_path / "out.html")}
    assert (tmp_path / "out.html").read_text() == PAGE


def test_of_a_dataset_and_a_training_of_one_name_the_kind_says_which(api: ApiServer, tmp_path: Path) -> None:
    api.add("fish", {"uri": "/nowhere", "version": "sha256:ab"}, kind="Dataset")
    api.add("fish", made(tmp_path / "x"), kind="TrainingRun")

    assert run("report", "fish", "--kind", "TrainingRun", "--to", tmp_path / "out.html").exit_code == 0
    assert "not visible" in failure(run("report", "fish", "--to", tmp_path / "out.html"))
    assert "allowed are Dataset, TrainingRun" in failure(run("report", "fish", "--kind", "Model"))
    assert "which has one report" in failure(run("report", "fish", "--kind", "TrainingRun", "--version", "ab"))


GATES: dict[str, Any] = {
    "gates": [
        {
            "metric": "test/F1",
            "class": "<b>|cod",
            "value": "0.8123",
            "interval": ENDS,
            "minimum": "0.75",
            "passed": True,
        },
        {"metric": "slice/site/F1", "slice": {"field": "site", "value": "Faial"}, "minimum": "0.5", "passed": False},
        {"metric": "test/loss", "value": "0.4", "maximum": "0.5", "passed": True},
        {
            "metric": "test/mAP50",
            "value": "0.7000",
            "champion": {
                "model": "finder",
                "version": "3",
                "value": "0.6000",
                "difference": "+0.1000",
                "interval": ENDS,
            },
            "passed": True,
        },
        {"metric": "test/mAP50", "value": "0.7000", "champion": {"model": "finder"}, "passed": True},
    ],
    "conditions": [{"type": "GatesPassed", "status": "False", "message": "spec.gates[1].metric: it has no such slice"}],
    "observedGeneration": 2,
}


def test_the_card_says_what_gates_say_now(api: ApiServer, tmp_path: Path) -> None:
    resource = api.add("finder", made(tmp_path / "x") | GATES, kind="TrainingRun")
    resource["metadata"]["generation"] = 2

    text = run("card", "finder").stdout

    assert text.startswith(CARD)
    assert "\n## Gates\n\nAs in status on 20" in text
    assert "spec.gates\\[1\\].metric: it has no such slice" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[2] == r"| test/F1 of the class \<b\>\|cod | 0.8123 (0.61–0.89) | 0.75 or more | passed |"
    assert rows[3] == "| slice/site/F1 of site Faial | undefined | 0.5 or more | not passed |"
    assert rows[4] == "| test/loss | 0.4 | 0.5 or less | passed |"
    assert "compared with version 3 of finder, which has 0.6000: a difference of +0.1000 (0.61 to 0.89)" in rows[5]
    assert "compared with the champion of finder: there was none" in rows[6]
    assert "has changed since" not in text
    resource["metadata"]["generation"] = 3
    assert (
        "The spec has changed since then; what follows is about the gates before the change."
        in run("card", "finder").stdout
    )


def test_the_report_shows_what_gates_say_now_before_its_sections(api: ApiServer, tmp_path: Path) -> None:
    page = f"{PAGE}<h1>Finder</h1><h2>Metrics</h2></body></html>"
    api.add("finder", made(tmp_path / "x", **{"report.html": page}) | GATES, kind="TrainingRun")

    assert run("report", "finder", "--to", tmp_path / "out.html").exit_code == 0

    written = (tmp_path / "out.html").read_text()
    assert written.startswith(f"{PAGE}<h1>Finder</h1><h2>Gates</h2>")
    assert written.endswith("</table></div><h2>Metrics</h2></body></html>")
    assert "test/F1 of the class &lt;b&gt;|cod" in written
    assert written.count('<span class="ok">passed</span>') == 4
    assert written.count('<span class="no">not passed</span>') == 1
