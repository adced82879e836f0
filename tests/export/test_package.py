"""A package is named by its graph, described file by file, and exists completely or not at all."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pelagos.engines.triton.package import Manifest, known
from pelagos_contract.training import Parity
from pelagos_pipelines.export import package
from pelagos_pipelines.serving import packages
from pelagos_pipelines.serving.predictions import Settings
from pelagos_pipelines.serving.tasks.classification import Classification


@pytest.fixture
def content(tmp_path: Path) -> package.Content:
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(b"graph")
    return package.Content(
        family="MobileNetV3",
        architecture="mobilenet_v3_small",
        dataset={"name": "plankton", "version": "sha256:1"},
        settings=Settings("Classification", ("Größe", "b"), 64, 64),
        onnx=onnx,
        parity=Parity(images=3, boxes=0, scores=0.001),
        probe=np.zeros((20, 30, 3), np.uint8),
        known=Classification(30, 20, np.array([0.25, 0.75], np.float32)),
    )


def test_the_package_has_the_files_of_the_contract_and_is_named_by_its_description(
    content: package.Content, tmp_path: Path
) -> None:
    written = package.write(content, tmp_path / "store")
    folder = written.folder
    assert written.onnx_sha256 == hashlib.sha256(b"graph").hexdigest()
    assert written.manifest_sha256 == folder.name == hashlib.sha256((folder / "package.json").read_bytes()).hexdigest()
    described = json.loads((folder / "package.json").read_text())
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert found == {"package.json", "model.onnx", "probe.png", "probe.json"}, "data, and no code"
    assert described["files"].keys() == found - {"package.json"}
    assert described["labels"] == ["Größe", "b"]
    assert described["parity"] == {"images": 3, "boxes": 0.0, "scores": 0.001}
    assert described["input"] == {"imageSize": 64, "stride": 64, "encodings": ["jpeg", "png"]}
    known = json.loads((folder / "probe.json").read_text())
    assert [item["label"] for item in known["classes"]] == ["b", "Größe"]


@pytest.mark.parametrize("color", ["GrayWorld", "Clahe"])
def test_the_correction_of_images_is_told_to_both_who_read_packages(
    content: package.Content, tmp_path: Path, color: str
) -> None:
    folder = package.write(replace(content, settings=replace(content.settings, color=color)), tmp_path / "store").folder

    assert packages.read(folder)[0].color == color
    assert Manifest.model_validate_json((folder / "package.json").read_bytes()).input.color == color


def test_a_package_with_another_correction_is_refused(content: package.Content, tmp_path: Path) -> None:
    with pytest.raises(packages.RefusedError, match=r"'input\.color' must be one of GrayWorld, Clahe"):
        package.write(replace(content, settings=replace(content.settings, color="Retinex")), tmp_path / "store")


def test_what_is_written_is_what_the_control_plane_takes(content: package.Content, tmp_path: Path) -> None:
    folder = package.write(content, tmp_path / "store").folder
    manifest = Manifest.model_validate_json((folder / "package.json").read_bytes())
    answer = (folder / "probe.json").read_bytes()
    assert known(manifest, b"", answer, "here").expected == json.loads(answer)


def test_the_same_package_is_written_once(content: package.Content, tmp_path: Path) -> None:
    first = package.write(content, tmp_path / "store")
    stamp = (first.folder / "package.json").stat().st_mtime_ns
    assert package.write(content, tmp_path / "store") == first
    assert (first.folder / "package.json").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("name", ["package.json", "model.onnx", "probe.png"])
def test_a_package_that_somebody_altered_is_written_again(content: package.Content, tmp_path: Path, name: str) -> None:
    folder = package.write(content, tmp_path / "store").folder
    (folder / name).write_bytes(b"altered")
    written = package.write(content, tmp_path / "store")
    assert written.folder == folder
    packages.verify(folder, written.manifest_sha256)


def test_another_model_with_the_same_graph_is_another_package(content: package.Content, tmp_path: Path) -> None:
    other = replace(content, dataset={"name": "plankton", "version": "sha256:2"})
    first, second = package.write(content, tmp_path / "store"), package.write(other, tmp_path / "store")
    assert first.folder != second.folder
    assert first.onnx_sha256 == second.onnx_sha256


def test_a_crash_leaves_no_package(content: package.Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(package, "_sync_folder", crash)
    with pytest.raises(KeyboardInterrupt):
        package.write(content, tmp_path / "store")
    assert [path.name for path in (tmp_path / "store").iterdir() if not path.name.startswith(".")] == []
    monkeypatch.undo()
    folder = package.write(content, tmp_path / "store").folder
    assert [path.name for path in (tmp_path / "store").iterdir()] == [folder.name]


@pytest.mark.parametrize("tile", [(1024, 128), (64, 0), (4096, 2048)])
def test_the_tiles_that_images_were_cut_into_are_kept(
    content: package.Content, tmp_path: Path, tile: tuple[int, int]
) -> None:
    folder = package.write(replace(content, settings=replace(content.settings, tile=tile)), tmp_path / "store").folder

    assert packages.read(folder)[0].tile == tile
    found = Manifest.model_validate_json((folder / "package.json").read_bytes()).input.tile
    assert found is not None
    assert (found.size, found.overlap) == tile


@pytest.mark.parametrize("tile", [(0, 0), (64, 33), (4097, 0), (64, -1)])
def test_tiles_that_make_no_sense_are_refused(content: package.Content, tmp_path: Path, tile: tuple[int, int]) -> None:
    with pytest.raises(packages.RefusedError, match=r"'input\.tile' must hold size and overlap"):
        package.write(replace(content, settings=replace(content.settings, tile=tile)), tmp_path / "store")


def test_the_side_to_which_images_are_reduced_is_kept(content: package.Content, tmp_path: Path) -> None:
    folder = package.write(replace(content, settings=replace(content.settings, longest=640)), tmp_path / "store").folder

    assert packages.read(folder)[0].longest == 640
    found = Manifest.model_validate_json((folder / "package.json").read_bytes()).input.resize
    assert found is not None
    assert found.longest == 640


@pytest.mark.parametrize("longest", [0, 16385, True])
def test_a_side_that_makes_no_sense_is_refused(content: package.Content, tmp_path: Path, longest: int) -> None:
    with pytest.raises(packages.RefusedError, match=r"'input\.resize' must hold longest"):
        package.write(replace(content, settings=replace(content.settings, longest=longest)), tmp_path / "store")


@pytest.mark.parametrize(("size", "stride"), [(65536, 32), (64, 65536), (0, 32)])
def test_a_canvas_that_takes_all_memory_is_refused(
    content: package.Content, tmp_path: Path, size: int, stride: int
) -> None:
    with pytest.raises(packages.RefusedError, match=r"'input' must hold imageSize and stride in pixels, at most 16384"):
        package.write(
            replace(content, settings=replace(content.settings, image_size=size, stride=stride)), tmp_path / "store"
        )
