"""``pelagos runs compare``: metrics side by side, their differences, and whether these are more than chance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pelagos.cli.main import app
from resource_servers import ApiServer, api

__all__ = ["api"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["runs", "compare", *map(str, arguments)])


def training(
    api: ApiServer, name: str, figures: list[float], version: str = "sha256:ab", **inputs: Any
) -> dict[str, Any]:
    """A TrainingRun with a seed for each figure, or without seeds for a single one."""
    mean = sum(figures) / len(figures)
    status: dict[str, Any] = {
        "metrics": {"test/mAP50": f"{mean:.4f}", "test/recall/cod": "0.5"},
        "dataset": {"name": "fish", "version": version},
        "inputs": {"model": {"architecture": "yolov8n"}, "hyperparameters": inputs},
    }
    if len(figures) > 1:
        status["seeds"] = [{"seed": seed, "metrics": {"test/mAP50": str(value)}} for seed, value in enumerate(figures)]
    return api.add(name, status, kind="TrainingRun")


def compared(*arguments: object) -> dict[str, Any]:
    done = run(*arguments, "-o", "json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


HIGH, LOW = [0.91, 0.92, 0.93, 0.94], [0.81, 0.82, 0.83, 0.84]


def test_seeds_that_never_overlap_differ_by_more_than_chance(api: ApiServer) -> None:
    training(api, "a", LOW)
    training(api, "b", HIGH)

    (row,) = compared("a", "b")["figures"]

    assert row["values"] == {"a": "0.8250 ± 0.0129", "b": "0.9250 ± 0.0129"}
    # 2 of the 70 ways to split 8 figures between two trainings are as extreme.
    assert row["differences"]["b"] == {
        "difference": 0.1,
        "words": "more than chance (p 0.029)",
        "p": round(2 / 70, 6),
        "moreThanChance": True,
    }


def test_of_one_seed_intervals_are_shown_and_the_worst_slices_are_compared(api: ApiServer) -> None:
    for name, worst in (("a", "0.3000"), ("b", "0.4000")):
        status: dict[str, Any] = {
            "metrics": {"test/mAP50": "0.8000", "worst/site/mAP50": worst, "test/recall/cod": "0.5"},
            "intervals": {"test/mAP50": {"low": "0.7510", "high": "0.8420", "level": "0.95"}},
            "dataset": {"name": "fish", "version": "sha256:ab"},
        }
        api.add(name, status, kind="TrainingRun")

    assert [(row["metric"], row["values"]) for row in compared("a", "b")["figures"]] == [
        ("test/mAP50", dict.fromkeys("ab", "0.8000 (0.7510–0.8420)")),
        ("worst/site/mAP50", {"a": "0.3000", "b": "0.4000"}),
    ]


def test_seeds_that_overlap_may_differ_by_chance(api: ApiServer) -> None:
    training(api, "a", [0.81, 0.92, 0.83, 0.94])
    training(api, "b", [0.91, 0.82, 0.93, 0.84])

    assert compared("a", "b")["figures"][0]["differences"]["b"]["words"].startswith("may be chance (p ")


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ([0.9], "one training each says nothing about chance: give both several spec.seeds"),
        ([0.9, 0.91, 0.92], "too few seeds to say: 3 and 3 could show no p below 0.1"),
    ],
)
def test_with_few_seeds_nobody_can_tell(api: ApiServer, figures: list[float], words: str) -> None:
    training(api, "a", figures)
    training(api, "b", [value - 0.3 for value in figures])

    difference = compared("a", "b")["figures"][0]["differences"]["b"]

    assert difference["words"] == words
    assert "moreThanChance" not in difference


def test_figures_of_other_test_images_are_not_compared(api: ApiServer) -> None:
    training(api, "a", HIGH)
    training(api, "b", LOW, version="sha256:cd")

    found = compared("a", "b")

    difference = found["figures"][0]["differences"]["b"]
    assert difference == {"words": "not comparable: they were measured on other test images"}
    assert found["data"] == {"version": {"a": "sha256:ab", "b": "sha256:cd"}}


def test_what_differs_in_parameters_is_listed_and_nothing_else(api: ApiServer) -> None:
    training(api, "a", [0.9], learningRate="0.01", epochs=30)
    training(api, "b", [0.8], learningRate="0.02", epochs=30, batchSize=8)

    found = compared("a", "b")

    assert found["parameters"] == {
        "hyperparameters.batchSize": {"a": None, "b": "8"},
        "hyperparameters.learningRate": {"a": "0.01", "b": "0.02"},
    }
    assert found["data"] == {}


def test_figures_of_classes_are_shown_when_asked_for(api: ApiServer) -> None:
    training(api, "a", [0.9])
    training(api, "b", [0.8])

    (row,) = compared("a", "b", "--metric", "test/recall/cod")["figures"]

    assert row["differences"]["b"]["difference"] == 0


def test_people_see_tables_and_a_page_that_asks_nobody(api: ApiServer, tmp_path: Path) -> None:
    training(api, "a", LOW, learningRate="<script>alert(1)</script>")
    training(api, "b", HIGH, learningRate="0.02")

    done = run("a", "b", "--save", tmp_path / "page.html")

    assert done.exit_code == 0, done.output
    assert "more than chance" in " ".join(done.stdout.split())
    page = (tmp_path / "page.html").read_text()
    assert page.count("<circle") == 8
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page


def test_a_figure_that_is_undefined_is_no_number(api: ApiServer) -> None:
    training(api, "a", [0.9])
    other = training(api, "b", [0.8])
    del other["status"]["metrics"]["test/mAP50"]

    (row,) = compared("a", "b")["figures"]

    assert row["values"]["b"] == "-"
    assert row["differences"]["b"] == {"words": "one of them does not have it"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a",), "name 2 to 8 different TrainingRuns; there are 1: a"),
        (("a", "a"), "name 2 to 8 different TrainingRuns; there are 2: a, a"),
        (("a", "ghost"), "TrainingRun default/ghost not found; there are a, new"),
        (("a", "new"), "TrainingRun default/new has no figures yet: it is not evaluated"),
        (
            ("a", "a2", "--metric", "test/x"),
            "--metric test/x: none of them has it; there are test/mAP50, test/recall/cod",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_line(api: ApiServer, arguments: tuple[str, ...], words: str) -> None:
    training(api, "a", [0.9])
    api.add("new", {}, kind="TrainingRun")
    if "a2" in arguments:
        training(api, "a2", [0.9])

    done = run(*arguments)

    assert (done.exit_code, done.stdout) == (1, "")
    assert words in done.stderr


@pytest.mark.parametrize("odd", ["NaN", "inf", "-Infinity", "1e308"])
def test_what_is_no_number_is_not_compared(api: ApiServer, tmp_path: Path, odd: str) -> None:
    for name, figures in (("a", LOW), ("b", HIGH)):
        training(api, name, figures)["status"]["seeds"][1]["metrics"]["test/mAP50"] = odd if name == "b" else "0.8"

    (row,) = compared("a", "b", "--save", tmp_path / "page.html")["figures"]

    assert row["values"]["b"] == "-"
    assert row["differences"]["b"] == {"words": "one of them does not have it"}
