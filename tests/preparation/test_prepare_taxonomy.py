"""The step prepare with labels.taxonomy: versions say which taxa their classes are, with any authority, online or not.

The service is a fake server (worms_server); stores are folders.
"""

from __future__ import annotations

import csv
import json
import re
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from image_sources import coco, document, photo, text
from pelagos_contract.dataset import PreparationResult
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.metadata import Metadata
from pelagos_pipelines.preparation import comparing, exporting, versions
from pelagos_pipelines.steps.prepare import prepare
from pelagos_pipelines.taxonomy import answers, naming, worms
from web_servers import Fault, Server, quick, serving
from worms_server import BASE, Worms

PAGE = (Path(__file__).parents[2] / "docs/classes.md").read_text(encoding="utf-8")
CLASSES = {"Gadus morhua": 3, "haddock": 4, "Limanda limanda": 3, "detritus": 3}
ASKED: dict[str, Any] = {"ids": {"haddock": 126437}, "keep": ["detritus"], "rank": "Family"}
TABLE = """label,AphiaID,ScientificName,Rank,Family
,126436,Gadus morhua,Species,Gadidae
haddock,126437,Melanogrammus aeglefinus,Species,Gadidae
,127139,Limanda limanda,Species,Pleuronectidae
,125469,Gadidae,Family,Gadidae
,125579,Pleuronectidae,Family,Pleuronectidae
"""


@dataclass
class Place:
    """A source of four classes, a store, and the service."""

    server: Server
    root: Path
    store: str

    def run(self, report: str = "r1", **asked: Any) -> PreparationResult:
        url = {} if "table" in asked else {"url": self.server.url + BASE}
        taxonomy = {"authority": "WoRMS", **url, **asked}
        request = {"source": {"volume": {"path": "."}}, "task": "Classification", "labels": {"taxonomy": taxonomy}}
        prepare(json.dumps(request), str(self.root / "data"), self.store, str(self.root / report))
        return PreparationResult.model_validate_json((self.root / report / "result.json").read_bytes())

    def refusal(self, **asked: Any) -> RefusedError:
        with pytest.raises(RefusedError) as caught:
            self.run("refused", **asked)
        told = json.loads((self.root / "refused" / "failure.json").read_bytes())
        assert told["reason"] == caught.value.failure.reason
        return caught.value


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(worms, "PAUSE", 0.0)
    monkeypatch.setattr(worms, "PATIENCE", quick())
    for seed, (name, count) in enumerate(CLASSES.items()):
        for number in range(count):
            photo(tmp_path / "data" / name / f"{number}.png", seed=10 * seed + number)
    with serving(Worms()) as server:
        for name, value in server.variables.items():
            monkeypatch.setenv(name, value)
        yield Place(server, tmp_path, str(tmp_path / "store"))


def at(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    """Make the kept answers of the service use another clock."""
    monkeypatch.setattr(naming, "Kept", partial(answers.Kept, clock=lambda: now))


def test_a_version_tells_which_taxa_its_classes_are(place: Place) -> None:
    result = place.run(**ASKED)

    assert [(one.name, one.annotations, one.aphia_id) for one in result.classes] == [
        ("Gadidae", 7, 125469),
        ("Pleuronectidae", 3, 125579),
        ("detritus", 3, None),
    ]
    told = result.taxonomy
    assert told is not None
    assert (told.authority, told.source, told.taxa, told.kept) == ("WoRMS", place.server.url + BASE, 2, ["detritus"])
    assert [(one.name, one.annotations) for one in told.rolled_up[0].of] == [("Gadus morhua", 3), ("haddock", 4)]
    assert "Gadidae is made of Gadus morhua (3), haddock (4)" in result.warnings
    manifest = orjson.loads(Path(result.uri, "manifest.json").read_bytes())
    assert manifest["taxa"] == {
        "Gadidae": {"aphiaId": 125469, "name": "Gadidae", "rank": "Family"},
        "Pleuronectidae": {"aphiaId": 125579, "name": "Pleuronectidae", "rank": "Family"},
    }
    assert manifest["recipe"]["labels"]["taxonomy"] == {"authority": "WoRMS", **ASKED}
    collection = versions.read(result.uri).collection
    assert collection.taxonomy is not None
    assert [taxon.name for taxon in collection.taxonomy.classes[0].above][-2:] == ["Actinopterygii", "Gadiformes"]
    assert collection.taxonomy.told == told


def documented(name: str) -> dict[str, Any]:
    """The spec.labels of a Dataset in docs/classes.md."""
    found = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
    labels: dict[str, Any] = next(each["spec"]["labels"] for each in found if each["metadata"]["name"] == name)
    return labels


@pytest.mark.parametrize("name", ["families", "offline"])
def test_what_the_page_shows_does_what_it_says(name: str, place: Place, tmp_path: Path) -> None:
    for seed, label in enumerate(("torsk" if name == "families" else "Gadus morhua", "haddock")):
        for number in range(3):
            photo(tmp_path / "shown" / label / f"{number}.png", seed=10 * seed + number)
    labels = documented(name)
    if name == "families":
        labels["taxonomy"]["url"] = place.server.url + BASE
        photo(tmp_path / "shown" / "bubble 7" / "a.png", seed=99)
    else:
        text(tmp_path / "shown" / "taxa.csv", re.findall(r"```\n(label,.*?)```", PAGE, re.DOTALL)[0])
    request = {"source": {"volume": {"path": "."}}, "task": "Classification", "labels": labels}

    prepare(json.dumps(request), str(tmp_path / "shown"), place.store, str(tmp_path / "report"))

    result = PreparationResult.model_validate_json((tmp_path / "report" / "result.json").read_bytes())
    assert (result.classes[-1].name, result.classes[-1].aphia_id, result.classes[-1].images) == ("Gadidae", 125469, 6)
    assert [one.name for one in result.classes[:-1]] == (["bubble 7"] if name == "families" else [])


def test_a_version_does_not_depend_on_when_and_whom_somebody_asked(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = place.run(**ASKED)
    beside = Path(first.uri, versions.TAXONOMY)
    asked_at = orjson.loads(beside.read_bytes())["told"]["askedAt"]

    at(monkeypatch, 4_000_000_000.0)
    (Path(place.store) / answers.FILE).unlink()
    later = place.run("later", **ASKED)
    text(place.root / "data" / "taxa.csv", TABLE)
    by_table = place.run("table", table="taxa.csv", **ASKED)

    assert first.version == later.version == by_table.version
    assert later.taxonomy is not None
    assert later.taxonomy.asked_at == "2096-10-02T07:06:40Z" != asked_at
    assert orjson.loads(beside.read_bytes())["told"]["source"] == "taxa.csv"
    assert by_table.files.annotations == 1


def test_a_taxon_that_the_register_accepts_no_more_makes_another_version_and_what_differs_is_told(place: Place) -> None:
    first = place.run(**ASKED | {"rank": None})
    service = place.server.handler
    assert isinstance(service, Worms)
    service.entries[126437] = replace(service.entries[126437], status="unaccepted", valid=126436)
    (Path(place.store) / answers.FILE).unlink()

    other = place.run("other", **ASKED | {"rank": None})

    assert other.warnings[0] == "haddock (126437) is not accepted any more: Gadus morhua (126436) is taken for it"
    assert comparing.compare(first.uri, other.uri, None)["recipe"] == [
        {"field": "taxa.haddock.aphiaId", "from": 126437, "to": 126436},
        {"field": "taxa.haddock.name", "from": "Melanogrammus aeglefinus", "to": "Gadus morhua"},
    ]


def test_a_refresh_asks_nothing_again_and_an_outage_stops_nobody(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    first = place.run(**ASKED)
    asked = len(place.server.seen)
    place.server.fail(Fault("answer", 503))

    photo(place.root / "data" / "haddock" / "new.png", seed=77)
    second = place.run("second", **ASKED)
    assert second.version != first.version
    assert len(place.server.seen) == asked

    at(monkeypatch, time.time() + answers.FRESH + 60)
    third = place.run("third", **ASKED)
    assert third.version == second.version
    assert any("does not answer" in warning for warning in third.warnings)


def test_nothing_is_prepared_while_a_service_that_never_answered_is_away(place: Place) -> None:
    place.server.fail(Fault("answer", 500))

    failure = place.refusal(**ASKED).failure

    assert (failure.reason, failure.field) == (Reason.TAXONOMY_UNAVAILABLE, "labels.taxonomy.url")
    assert not list((Path(place.store) / "versions").iterdir())


def test_an_address_that_is_not_allowed_is_refused_with_the_line(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PELAGOS_SOURCE_HOSTS")

    failure = place.refusal(**ASKED).failure

    assert failure.reason == Reason.SOURCE_NOT_ALLOWED
    assert f"PELAGOS_SOURCE_HOSTS='{place.server.url}'" in failure.message
    assert place.server.seen == []


def test_a_table_is_asked_instead_of_anybody(place: Place) -> None:
    text(place.root / "data" / "taxa.csv", TABLE)

    result = place.run(table="taxa.csv", rank="Family")

    assert [(one.name, one.aphia_id) for one in result.classes] == [
        ("Gadidae", 125469),
        ("Pleuronectidae", 125579),
        ("detritus", None),
    ]
    assert result.taxonomy is not None
    assert result.taxonomy.unknown[0].why == "it is not in the table"
    assert place.server.seen == []
    assert not (Path(place.store) / answers.FILE).exists()


def test_a_version_whose_record_somebody_changed_is_read_by_its_manifest(place: Place) -> None:
    result = place.run(**ASKED)
    beside = Path(result.uri, versions.TAXONOMY)
    for content in (b"{", beside.read_bytes().replace(b"125469", b"125470"), b'{"told": 7}'):
        beside.write_bytes(content)
        found = versions.read(result.uri).collection.taxonomy
        assert found is not None
        assert {name: taxon.aphia_id for name, taxon in found.taxa().items()} == {
            "Gadidae": 125469,
            "Pleuronectidae": 125579,
        }
    beside.unlink()
    assert versions.read(result.uri).collection.taxonomy is not None


def test_exports_tell_the_taxa_of_classes(place: Place, tmp_path: Path) -> None:
    result = place.run(ids={"haddock": 302815}, keep=["detritus"])
    told = {"title": "Fish", "description": "Fish.", "creators": [{"name": "Roe"}], "license": "CC0-1.0"}
    wanted = exporting.Wanted(
        documents=["DarwinCore", "Croissant", "Ifdo", "DataCite", "SchemaOrg"],
        metadata=Metadata.model_validate(told),
        dataset="default/fish",
        made="2026-11-29",
    )
    folder = tmp_path / "out"
    exporting.export(result.uri, exporting.NO_VIEW, folder, wanted)

    with zipfile.ZipFile(folder / "dwca.zip") as archive:
        rows = [*csv.DictReader(archive.read("occurrence.csv").decode().splitlines())]
        eml = archive.read("eml.xml").decode()
    by_class = {row["verbatimIdentification"]: row for row in rows}
    dolphinfish, cod, detritus = (by_class[name] for name in ("haddock", "Gadus morhua", "detritus"))
    assert dolphinfish["scientificName"] == "Coryphaena hippurus"
    assert dolphinfish["scientificNameID"] == "urn:lsid:marinespecies.org:taxname:126846"
    ranks = [cod[rank] for rank in ("taxonRank", "kingdom", "phylum", "class", "order", "family", "genus")]
    assert ranks == ["Species", "Animalia", "Chordata", "Actinopterygii", "Gadiformes", "Gadidae", "Gadus"]
    assert (detritus["scientificName"], detritus["scientificNameID"], detritus["family"]) == ("detritus", "", "")
    assert "<taxonRankValue>Coryphaena hippurus</taxonRankValue>" in eml
    labels = json.loads((folder / "ifdo.json").read_bytes())["image-set-header"]["image-annotation-labels"]
    assert {label["name"]: label.get("info") for label in labels} == {
        "Gadus morhua": "urn:lsid:marinespecies.org:taxname:126436",
        "haddock": "urn:lsid:marinespecies.org:taxname:126846",
        "Limanda limanda": "urn:lsid:marinespecies.org:taxname:127139",
        "detritus": None,
    }
    taxa = {row["label"]: row["taxon"] for row in csv.DictReader((folder / "annotations.csv").read_text().splitlines())}
    assert (taxa["haddock"], taxa["detritus"]) == ("urn:lsid:marinespecies.org:taxname:126846", "")
    assert "urn:lsid:marinespecies.org:taxname:127139" in (folder / "datacite.json").read_text()


@pytest.mark.parametrize("view", ["coco", "ifdo"])
def test_views_tell_the_taxa_of_classes_where_they_have_a_place(view: str, place: Place, tmp_path: Path) -> None:
    boxes = {f"{number}.png": [[2.0, 2.0, 10.0, 10.0]] for number in range(9)}
    for number, name in enumerate(boxes):
        photo(tmp_path / "boxes" / name, seed=number)
    document(tmp_path / "boxes" / "annotations.json", coco(boxes))
    asked = {"authority": "WoRMS", "url": place.server.url + BASE, "ids": {"cod": 126436}}
    request = {"source": {"volume": {"path": "."}}, "task": "Detection", "labels": {"taxonomy": asked}}
    prepare(json.dumps(request), str(tmp_path / "boxes"), place.store, str(tmp_path / "boxed"))
    result = PreparationResult.model_validate_json((tmp_path / "boxed" / "result.json").read_bytes())

    versions.materialise(result.uri, view, tmp_path / "view")

    if view == "coco":
        made = json.loads((tmp_path / "view" / "annotations" / "instances_train.json").read_bytes())
        assert made["categories"] == [
            {
                "id": 1,
                "name": "cod",
                "supercategory": "Gadus",
                "scientificName": "Gadus morhua",
                "scientificNameID": "urn:lsid:marinespecies.org:taxname:126436",
            }
        ]
    else:
        header = json.loads((tmp_path / "view" / "ifdo.json").read_bytes())["image-set-header"]
        assert header["image-annotation-labels"][0]["info"] == "urn:lsid:marinespecies.org:taxname:126436"


def test_versions_without_taxa_are_as_they_were(place: Place) -> None:
    request = {"source": {"volume": {"path": "."}}, "task": "Classification"}
    prepare(json.dumps(request), str(place.root / "data"), place.store, str(place.root / "plain"))
    result = PreparationResult.model_validate_json((place.root / "plain" / "result.json").read_bytes())

    assert result.taxonomy is None
    assert not Path(result.uri, versions.TAXONOMY).exists()
    assert "taxa" not in orjson.loads(Path(result.uri, "manifest.json").read_bytes())
