"""The main job with an extension's source, format, family and engine, which one setting names. Nothing is replaced."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

import extension_environments
from installations import Installation, service, training

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(300)]
IN_ORDER = True
"""The tests of this module build on each other."""

DATASET = {
    "apiVersion": "pelagos.dev/v1alpha1",
    "kind": "Dataset",
    "metadata": {"name": "plankton"},
    "spec": {"source": {"archive": {"file": "plankton.zip"}}, "format": "Table", "task": "Classification"},
}


@dataclass(frozen=True)
class Extended(Installation):
    """An installation whose owner has the package `extension_example` in two environments, and names it."""

    environments: Path

    def environment(self) -> dict[str, str]:
        """The variables, with the settings that name the package and its engine."""
        named = {"PELAGOS_EXTENSIONS": "extension_example", "PELAGOS_PIPELINES_ENGINE": "workshop"}
        return {**super().environment(), **named, "PELAGOS_ENVIRONMENTS": str(self.environments)}

    def pelagos(self, *arguments: str | Path) -> str:
        """Run `pelagos` from their environment."""
        return self.run(self.environments / "operator/bin/python", "-m", "pelagos.cli.main", *arguments)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Extended]:
    """A running installation with an archive of dark copepods and bright diatoms on its data volume."""
    folder = tmp_path_factory.mktemp("extended")
    made = Extended(folder / "home", extension_environments.make(folder / "environments"))
    write_archive(made.home / "data" / "plankton.zip")
    made.pelagos("up")
    yield made
    made.pelagos("down")


def write_archive(file: Path) -> None:
    file.parent.mkdir(parents=True)
    rows = []
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(24):
            label, shade = (("copepod", 40), ("diatom", 200))[number % 2]
            image = Image.new("RGB", (48, 40), (shade, shade, shade))
            ImageDraw.Draw(image).ellipse((number, 5, number + 12, 30), fill=(255 - shade, 9 * number, shade))
            name = f"{number}.png"
            with archive.open(name, "w") as target:
                image.save(target, "png")
            rows.append(f"{name},{label}\n")
        archive.writestr("labels.csv", "".join(rows))


def test_the_three_resources_get_ready_with_them(extended: Extended) -> None:
    extended.apply(
        DATASET,
        training("tiny", "plankton", "tiny_cnn", 3, size=32),
        service("tiny", {"trainingRunRef": {"name": "tiny"}}),
    )

    extended.wait_ready("modelservice", "tiny", 200)

    status = extended.get("dataset", "plankton")["status"]
    assert [one["name"] for one in status["classes"]] == ["copepod", "diatom"]
    (found,) = [one for one in status["conditions"] if one["type"] == "SourceResolved"]
    assert found["message"] == "1 files at plankton.zip"


def test_the_work_was_done_by_their_engine_and_with_their_family(extended: Extended) -> None:
    status = extended.get("trainingrun", "tiny")["status"]
    package = json.loads((Path(status["model"]["uri"]) / "package.json").read_text(encoding="utf-8"))

    assert package["family"] == "Tiny"
    assert not (extended.home / "runs").exists(), "the engine that we bring has run nothing"


def test_the_endpoint_answers_as_their_family_does(extended: Extended) -> None:
    conditions = extended.get("modelservice", "tiny")["status"]["conditions"]

    assert {one["type"]: one["status"] for one in conditions}["Probed"] == "True"
