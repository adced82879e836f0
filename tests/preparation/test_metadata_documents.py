"""Metadata documents beside a version, read by the libraries of those who define or use the formats."""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import json
import os
import re
import shutil
import subprocess
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

import dataset_versions
import image_sources
from described_datasets import FULL
from pelagos_contract.capture import CaptureSource
from pelagos_contract.documents import DOCUMENTS
from pelagos_contract.metadata import Metadata
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import linking
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.annotations.model import Collection, ImageRecord
from pelagos_pipelines.metadata import registry
from pelagos_pipelines.metadata.registry import LackingError
from pelagos_pipelines.preparation import exporting, versions
from pelagos_pipelines.preparation.capturing import applying

_ROOT = Path(__file__).parents[2]
_PYTHON = Path(os.environ.get("PELAGOS_ENVIRONMENTS", _ROOT / ".venvs")) / "metadata/bin/python"
DIVE = Capture("pier 7", "dive-1", "ROV Eel", "2024-05-31T08:00:00.500000-01:00", 12.5, 36.6, -4.3)
"""What is known about one of the images."""
LEAST = {"title": "Fish", "description": "Fish.", "creators": [{"name": "Roe"}], "license": "CC0-1.0"}


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> versions.Version:
    folder = tmp_path_factory.mktemp("version")
    return dataset_versions.write(
        folder / "store", dataset_versions.detection(folder / "source"), captures={"images/4.png": DIVE}
    )


def described(metadata: dict[str, Any], *names: str) -> exporting.Wanted:
    return exporting.Wanted(
        documents=list(names or DOCUMENTS.names),
        metadata=Metadata.model_validate(metadata),
        dataset="default/fish",
        made="2026-11-29",
    )


@dataclass(frozen=True)
class Written:
    """A folder of images and documents, and what the libraries read from it."""

    folder: Path
    found: dict[str, Any]


@pytest.fixture(scope="module")
def written(version: versions.Version, tmp_path_factory: pytest.TempPathFactory) -> Written:
    if not _PYTHON.exists():
        pytest.skip("the environment metadata is not installed")
    folder = tmp_path_factory.mktemp("out") / "fish"
    exporting.export(str(version.folder), "yolo", folder, described(FULL))
    command = [_PYTHON, _ROOT / "tests/metadata_program.py", folder]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return Written(folder, json.loads(done.stdout))


def test_ifdo_has_the_annotations_and_what_people_say(written: Written) -> None:
    header, items = written.found["ifdo"]["header"], written.found["ifdo"]["items"]

    assert header["image-set-name"] == "Fish of the bay"
    assert header["image-license"]["name"] == "CC-BY-4.0"
    assert header["image-creators"][0]["uri"] == "https://orcid.org/0000-0002-1825-0097"
    assert header["image-platform"] == {"name": "RV Nautilus"}
    assert header["image-set-max-latitude-degrees"] == 36.8
    assert header["image-annotation-labels"][0]["info"] == "urn:lsid:marinespecies.org:taxname:126436"
    assert sum(len(item["image-annotations"]) for item in items.values()) == sum(range(9))
    files = [path.name for path in (written.folder / header["image-set-local-path"]).rglob("*.png")]
    assert sorted(items) == sorted(files)


def test_ifdo_has_when_and_where_an_image_was_taken(written: Written) -> None:
    items = written.found["ifdo"]["items"]

    (dive,) = (item for item in items.values() if "image-latitude" in item)
    assert dive["image-datetime"].startswith("2024-05-31 09:00:00.5")  # in UTC
    assert (dive["image-latitude"], dive["image-longitude"], dive["image-altitude-meters"]) == (36.6, -4.3, -12.5)
    assert (dive["image-platform"]["name"], dive["image-event"]["name"]) == ("ROV Eel", "dive-1")


def test_an_ifdo_that_was_written_says_when_and_where_once_more(version: versions.Version, tmp_path: Path) -> None:
    exporting.export(str(version.folder), "yolo", tmp_path / "out", described(LEAST, "Ifdo"))
    tree = image_sources.tree_of(tmp_path / "out")
    images = tuple(ImageRecord(path, label="fish") for path in tree.images)
    wanted = CaptureSource.model_validate({"from": "Ifdo", "file": "ifdo.json"})

    again = applying.applied(Collection(Task.CLASSIFICATION, ("fish",), images), tree, wanted, lambda path: True)

    (dive,) = (image.capture for image in again.collection.images if image.capture is not None)
    assert dive == replace(DIVE, site=None, time="2024-05-31T09:00:00.500000Z")  # iFDO has no sites, and times in UTC


def test_croissant_is_read_as_records_without_a_warning(written: Written) -> None:
    found = written.found["croissant"]

    assert found["problems"] == []
    images, annotations = (found["records"][name] for name in ("images", "annotations"))
    assert (len(images), len(annotations)) == (9, sum(range(9)))
    assert all((written.folder / image["images/image"]).exists() for image in images)
    assert {each["annotations/image"] for each in annotations} <= {each["images/image"] for each in images}
    (dive,) = (image for image in images if image["images/site"])
    assert (dive["images/time"], dive["images/depth"]) == (DIVE.time, 12.5)
    assert annotations[0]["annotations/shape"] == "rectangle"
    assert annotations[0]["annotations/width"] == pytest.approx(41 * 0.25)


def test_datacite_is_valid_by_its_schema(written: Written) -> None:
    assert written.found["datacite"] == {"problems": []}
    document = json.loads((written.folder / "datacite.json").read_bytes())
    assert document["doi"] == "10.5281/zenodo.1"
    assert document["publicationYear"] == "2026"
    # Kinds of identifiers that DataCite lacks are left out: book titles and ORCID iDs are not works to it.
    assert [each["relatedIdentifierType"] for each in document["relatedIdentifiers"]] == ["DOI", "URL"]


def test_a_darwin_core_archive_has_what_was_seen_on_each_image(written: Written) -> None:
    found = written.found["darwin_core"]
    rows = [
        {name.rpartition("/")[2]: value for name, value in data.items()} | {"media": media}
        for _, data, media in found["rows"]
    ]

    assert (found["core"].rpartition("/")[2], found["title"]) == ("Occurrence", "Fish of the bay")
    assert sum(int(row["individualCount"]) for row in rows) == sum(range(9))
    assert len({row["occurrenceID"] for row in rows}) == len(rows)
    cod = next(row for row in rows if row["scientificName"] == "cod")
    assert cod["scientificNameID"] == "urn:lsid:marinespecies.org:taxname:126436"
    assert (cod["maximumDepthInMeters"], cod["eventDate"]) == ("20.5", "2025-01/2025-06-30")
    assert cod["footprintWKT"].startswith("POLYGON ((-4.5 36.5,")
    dive = next(row for row in rows if row["parentEventID"] == "dive-1")
    assert (dive["eventDate"], dive["locality"]) == ("2024-05-31T08:00:00.500000-01:00", "pier 7")
    assert (dive["decimalLatitude"], dive["decimalLongitude"], dive["footprintWKT"]) == ("36.6", "-4.3", "")
    assert (dive["minimumDepthInMeters"], dive["maximumDepthInMeters"]) == ("12.5", "12.5")
    ((kind, media),) = cod["media"]
    assert kind == "http://rs.gbif.org/terms/1.0/Multimedia"
    assert (written.folder / unquote(media["http://purl.org/dc/terms/identifier"])).exists()


def test_a_crate_lists_every_file_and_refers_to_nothing_that_is_not_there(written: Written) -> None:
    found = written.found["ro_crate"]

    assert (found["missing"], found["dangling"]) == ([], [])
    assert found["license"] == "https://spdx.org/licenses/CC-BY-4.0"
    there = {path.relative_to(written.folder).as_posix() for path in written.folder.rglob("*") if path.is_file()}
    assert {*found["files"]} == there - {"ro-crate-metadata.json"}


def test_schema_org_uses_no_word_that_the_vocabulary_lacks(written: Written) -> None:
    found = written.found["schema_org"]

    assert found["strange"] == []
    assert found["document"]["spatialCoverage"][0]["geo"]["box"] == "36.5 -4.5 36.8 -4.2"
    assert found["document"]["funding"][0]["identifier"] == "101058625"


def test_every_kind_that_the_contract_names_has_a_writer() -> None:
    assert registry.WRITERS.names == DOCUMENTS.names
    assert [writer.description for writer in registry.WRITERS] == list(DOCUMENTS)


def test_metadata_is_written_alone_and_from_little(version: versions.Version, tmp_path: Path) -> None:
    images, _ = exporting.export(str(version.folder), exporting.NO_VIEW, tmp_path / "out", described(LEAST))

    assert images == 9
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == sorted(file for each in DOCUMENTS for file in each.files)
    crate = json.loads((tmp_path / "out" / "ro-crate-metadata.json").read_bytes())["@graph"]
    assert len([entity for entity in crate if entity["@type"] == "File"]) == len(names) - 1


def test_the_same_version_and_words_are_the_same_bytes(version: versions.Version, tmp_path: Path) -> None:
    for name in ("one", "other"):
        exporting.export(str(version.folder), exporting.NO_VIEW, tmp_path / name, described(FULL))

    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "other" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("linked", [True, False], ids=["linked", "copied"])
def test_the_digests_that_documents_tell_are_those_of_the_files(
    version: versions.Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    if not linked:
        monkeypatch.setattr(linking, "link", shutil.copyfile)

    exporting.export(str(version.folder), "coco", tmp_path / "out", described(LEAST, "RoCrate"))

    crate = json.loads((tmp_path / "out" / "ro-crate-metadata.json").read_bytes())["@graph"]
    told = {each["@id"]: each["sha256"] for each in crate if each["@type"] == "File"}
    assert len(told) > 9
    for name, digest in told.items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("document", list(DOCUMENTS), ids=lambda each: each.name)
def test_what_a_document_needs_and_nobody_said_is_named_and_nothing_is_written(
    document: Any, version: versions.Version, tmp_path: Path
) -> None:
    fields = " and ".join(f"spec.metadata.{name}" for name in document.needs)

    with pytest.raises(LackingError, match=f"{document.name} cannot be written without {fields}; set them"):
        exporting.export(str(version.folder), exporting.NO_VIEW, tmp_path / "out", described({}, document.name))

    assert list(tmp_path.iterdir()) == []


def test_two_images_that_are_the_same_keep_files_of_their_own(tmp_path: Path) -> None:
    source = dataset_versions.detection(tmp_path / "source", 3)
    (source / "images" / "again.png").write_bytes((source / "images" / "2.png").read_bytes())
    (source / "labels" / "again.txt").write_text("")
    version = dataset_versions.write(tmp_path / "store", source)

    exporting.export(str(version.folder), "yolo", tmp_path / "out", described(LEAST, "Croissant"))

    lines = (tmp_path / "out" / "images.csv").read_text().splitlines()[1:]
    assert len({line.partition(",")[0] for line in lines}) == 4


def test_classes_whose_names_mean_something_in_addresses_and_patterns_are_found(tmp_path: Path) -> None:
    for index in range(6):
        image_sources.photo(
            tmp_path / "source" / ("Gadus morhua", 'é,"x" #1?%20[a]')[index % 2] / f"{index}.jpg", seed=index
        )
    version = dataset_versions.write(tmp_path / "store", tmp_path / "source", Task.CLASSIFICATION)
    out = tmp_path / "out"

    exporting.export(str(version.folder), "imagefolder", out, described(LEAST, "Croissant", "RoCrate", "DarwinCore"))

    there = {path.relative_to(out).as_posix() for path in out.rglob("*.jpg")}
    crate = json.loads((out / "ro-crate-metadata.json").read_bytes())["@graph"]
    assert {unquote(each["@id"]) for each in crate if str(each["@id"]).endswith(".jpg")} == there
    assert all(re.fullmatch("[!-~]+", each["@id"]) for each in crate)
    patterns = [each["includes"] for each in json.loads((out / "croissant.json").read_bytes())["distribution"][2:]]
    assert {name for name in there if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)} == there
    with zipfile.ZipFile(out / "dwca.zip") as archive:
        rows = list(csv.DictReader(archive.read("multimedia.csv").decode().splitlines()))
    assert {unquote(row["identifier"]) for row in rows} == there


@pytest.mark.parametrize(
    ("period", "dates"),
    [
        ({"start": "2024-02"}, ["2024-02-01", "2024-02-29"]),
        ({"start": "2024-02", "end": "2025"}, ["2024-02-01", "2025"]),
        ({"start": "2024-02-03", "end": "2024-02-03"}, ["2024-02-03"]),
    ],
)
def test_a_month_is_all_of_its_days_in_eml_which_has_no_months(
    version: versions.Version, tmp_path: Path, period: dict[str, str], dates: list[str]
) -> None:
    said = LEAST | {"period": period, "issued": "2026-05"}

    exporting.export(str(version.folder), exporting.NO_VIEW, tmp_path / "out", described(said, "DarwinCore"))

    with zipfile.ZipFile(tmp_path / "out" / "dwca.zip") as archive:
        eml = archive.read("eml.xml").decode()
    assert re.findall("<calendarDate>(.*?)<", eml) == dates
    assert "<pubDate>2026<" in eml


def test_a_point_across_the_date_line_makes_no_polygon_around_the_world(
    version: versions.Version, tmp_path: Path
) -> None:
    across = LEAST | {"coverage": [{"south": "-20", "west": "178", "north": "-18", "east": "-178"}]}

    exporting.export(str(version.folder), exporting.NO_VIEW, tmp_path / "out", described(across, "DarwinCore", "Ifdo"))

    with zipfile.ZipFile(tmp_path / "out" / "dwca.zip") as archive:
        assert b"POLYGON" not in archive.read("occurrence.csv")
    header = json.loads((tmp_path / "out" / "ifdo.json").read_bytes())["image-set-header"]
    assert header["image-set-min-longitude-degrees"] == -180
