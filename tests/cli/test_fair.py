"""``pelagos fair``: the built-in evaluation's findings, and a FAIR EVA server's about the published record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from described_datasets import FULL
from fair_eva_server import FairEva, serving
from pelagos.cli.main import app
from pelagos_contract.fair.indicators import INDICATORS
from resource_servers import ApiServer, api

__all__ = ["api"]

STATUS = {"version": "sha256:" + "a1" * 32, "classes": [{"name": "cod"}, {"name": "eel"}]}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["fair", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture
def eva() -> Iterator[FairEva]:
    with serving(FairEva()) as service:
        yield service


def document(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_dataset_is_evaluated_and_told_what_helps(api: ApiServer) -> None:
    api.add("fish", STATUS, spec={"metadata": {"title": "Fish"}})

    done = run("fish")

    assert done.exit_code == 0, done.output
    assert "RDA-R1.1-01M" in done.stdout
    assert "up to" in done.stdout
    assert "set spec.metadata.license, for example CC-BY-4.0" in done.stdout


def test_less_than_what_is_asked_for_ends_with_one(api: ApiServer) -> None:
    api.add("fish", STATUS, spec={"fair": {"minScore": 60}})

    done = run("fish", "-o", "json")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["minScore"] == 60
    assert "spec.fair.minScore is 60" in done.stderr


def test_the_server_is_asked_once_for_all_by_the_doi(api: ApiServer, eva: FairEva) -> None:
    api.add("fish", STATUS, spec={"metadata": FULL})
    eva.points = {"RDA-A2-01M": 50, "RDA-A1-05D": 0}

    found = document(run("fish", "--server", eva.url, "-o", "json"))

    body = {"id": "10.5281/zenodo.1", "repo": "oai_pmh", "api_endpoint": "https://zenodo.org/oai2d", "lang": "en"}
    assert eva.asked == [("rda_all", body)]
    assert found["fairEva"]["score"] == round((680 * 100 - 20 * 50 - 15 * 100) / 680, 2)
    assert found["fairEva"]["notEvaluated"] == []
    told = {each["code"]: each for each in found["fairEva"]["indicators"]}
    assert (told["RDA-A2-01M"]["points"], told["RDA-A2-01M"]["status"]) == (50, "fail")
    assert told["RDA-A2-01M"]["evidence"] == "found; of RDA-A2-01M"


def test_where_the_call_for_all_fails_each_is_asked_for_and_what_fails_is_no_zero(api: ApiServer, eva: FairEva) -> None:
    api.add("fish", STATUS, spec={"metadata": FULL})
    eva.failing = {"RDA-A1-02M", "RDA-R1.1-02M", "RDA-R1.1-03M"}
    eva.points = {"RDA-F2-01M": 20.5}

    found = document(run("fish", "--server", eva.url, "-o", "json"))["fairEva"]

    assert {method for method, _ in eva.asked} == {"rda_all", *(each.method for each in INDICATORS)}
    assert {*found["notEvaluated"]} == eva.failing
    rest = sum(each.weight for each in INDICATORS if each.code not in eva.failing)
    assert found["score"] == round((rest * 100 - 20 * 79.5) / rest, 2)


def test_both_are_shown_with_where_they_differ(api: ApiServer, eva: FairEva) -> None:
    api.add("fish", STATUS, spec={"metadata": FULL})
    eva.points = {"RDA-A2-01M": 50, "RDA-F4-01M": 90}

    done = run("fish", "--server", eva.url)

    assert done.exit_code == 0, done.output
    assert "FAIR EVA: found; of RDA-A2-01M" in " ".join(done.stdout.split())
    assert "RDA-F4-01M" not in done.stdout


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"[]", b"null", b'{"10.5281/zenodo.1": []}', b"[" * 100_000, b"x" * (8 * 1024**2 + 1)],
    ids=["empty", "object", "list", "null", "nothing", "deep", "large"],
)
def test_an_answer_that_is_no_evaluation_is_none(api: ApiServer, eva: FairEva, raw: bytes) -> None:
    api.add("fish", STATUS, spec={"metadata": FULL})
    eva.raw = raw

    done = run("fish", "--server", eva.url, "-o", "json")

    assert done.exit_code == 1
    assert "evaluated nothing of 10.5281/zenodo.1" in json.loads(done.stdout)["error"]


@pytest.mark.parametrize("points", ['"100"', "true", "NaN", "1e999", "null", "{}"])
def test_points_that_are_none_do_not_count(api: ApiServer, eva: FairEva, points: str) -> None:
    api.add("fish", STATUS, spec={"metadata": FULL})
    good = json.dumps({each.method: {"points": 100} for each in INDICATORS if each.code.startswith("RDA-F")})
    bad = f'{{"rda_a2_01m": {{"points": {points}, "msg": [[[[[[[[[["deep"]]]]]]]]]]}}}}'
    eva.raw = f'{{"10.5281/zenodo.1": {{"findable": {good}, "accessible": {bad}, "unknown": 1}}}}'.encode()

    found = document(run("fish", "--server", eva.url, "-o", "json"))["fairEva"]

    assert (found["findable"], found["accessible"], found["score"]) == (100, None, 100)


@pytest.mark.parametrize(
    ("metadata", "arguments", "words"),
    [
        ({}, (), "by their DOI; name it with --doi"),
        ({}, ("--doi", "8435696"), "by their DOI; name it with --doi"),
        ({"license": "ours"}, (), "spec.metadata.license: Value error, 'ours' is not a licence"),
        (FULL, ("--server", "http://127.0.0.1:9"), "there is no FAIR EVA server at http://127.0.0.1:9"),
        (FULL, ("--server", "nonsense"), "there is no FAIR EVA server at nonsense"),
    ],
    ids=["no DOI", "a number", "no licence", "nobody", "no address"],
)
def test_why_it_was_not_evaluated_is_one_line(
    api: ApiServer, metadata: Any, arguments: tuple[str, ...], words: str
) -> None:
    api.add("fish", STATUS, spec={"metadata": metadata})

    done = run("fish", "--server", "http://127.0.0.1:9", *arguments)

    assert (done.exit_code, done.stdout) == (1, "")
    assert words in " ".join(done.stderr.split())
