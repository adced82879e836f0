"""What tools/samples.sh writes to the data volume: the crops as published, frames with COCO annotations, and a README."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pelagos_contract.sources import VolumeSource
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import coco
from pelagos_pipelines.annotations.model import Asked
from pelagos_pipelines.samples import survey, writing
from pelagos_pipelines.samples import wheel as wheels
from pelagos_pipelines.sources import volume


@pytest.fixture(scope="module")
def samples(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "samples"
    writing.write(
        wheels.read(wheel),
        folder,
        {"train": 8, "validation": 3, "test": 3},
        {"train": 2, "validation": 1, "test": 1},
        4,
    )
    return folder


def test_crops_are_byte_for_byte_as_published(wheel: Path, samples: Path) -> None:
    crops = wheels.read(wheel).crops

    written = {(file.parent.name, file.name): file.read_bytes() for file in samples.glob("phytoplankton-crops/*/*")}
    assert written == {(crop.label, crop.name): crop.encoded for crop in crops}


def test_frames_are_read_as_coco_with_groups_by_division_of_organisms(samples: Path) -> None:
    tree = volume.collect(VolumeSource(path="samples/phytoplankton-frames"), samples.parent)

    collection = coco.read(tree, lambda _: (384, 384), Asked(Task.DETECTION))

    assert len(collection.images) == 14
    assert sorted(collection.classes) == sorted(wheels.EXPECTED)
    groups = [image.group for image in collection.images]
    assert {group: groups.count(group) for group in groups} == {
        "organisms-train": 8,
        "organisms-validation": 3,
        "organisms-test": 3,
    }


def test_no_organism_is_in_frames_of_two_groups(samples: Path) -> None:
    content = json.loads((samples / "phytoplankton-frames" / "annotations.json").read_text())

    groups: dict[str, set[str]] = {}
    for image in content["images"]:
        for organism in image["organisms"]:
            groups.setdefault(organism, set()).add(image["group"])
    assert groups
    assert all(len(found) == 1 for found in groups.values())


def test_no_organism_of_the_survey_is_in_two_hauls_and_no_haul_at_two_sites(samples: Path) -> None:
    folder = samples / "phytoplankton-survey"
    rows = list(csv.DictReader((folder / survey.TABLE).read_text().splitlines()))

    assert {row["path"] for row in rows} == {str(file.relative_to(folder)) for file in folder.glob("*/*.png")}
    for one, other in (("organism", "deployment"), ("deployment", "site")):
        of = {(row[one], row[other]) for row in rows}
        assert len(of) == len({row[one] for row in rows})
    assert Counter(row["site"] for row in rows) == {f"site-{number}": 5 * 4 for number in range(1, 6)}
    assert {row["path"].split("/")[0] for row in rows} == {*wheels.EXPECTED}


def test_the_licence_comes_along(samples: Path) -> None:
    assert (samples / "LICENSE.txt").read_text() == "Apache License"


def test_the_readme_says_what_is_composed(samples: Path) -> None:
    text = (samples / "README.md").read_text()

    for said in (
        "**Real.** 105 images",
        "**Composed.** 14 frames",
        "100 crops of such frames, from 25 hauls at 5 sites",
        "Apache-2.0",
        "VLIZ",
        "say nothing about real",
    ):
        assert said in text


def test_the_command_says_what_is_wrong_with_a_wheel(tmp_path: Path) -> None:
    (tmp_path / "w.whl").write_bytes(b"not a wheel")
    command = [
        sys.executable,
        "-m",
        "pelagos_pipelines.samples",
        "--wheel",
        str(tmp_path / "w.whl"),
        "--into",
        str(tmp_path / "x"),
    ]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "download it again" in done.stdout
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x").exists()
