"""A package is named by its graph, described file by file, and there completely or not at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from pelagos_pipelines.contract import Parity
from pelagos_pipelines.export import package, triton
from pelagos_pipelines.serving.predictor import Classification, Settings, read_settings


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


def test_the_package_has_the_files_of_the_contract(content: package.Content, tmp_path: Path) -> None:
    folder, digest = package.write(content, tmp_path / "store")
    assert digest == folder.name == hashlib.sha256(b"graph").hexdigest()
    described = json.loads((folder / "package.json").read_text())
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {
        *("package.json", "probe.png", "probe.json", "triton/config.json"),
        *(f"triton/1/{name}" for name in ("model.onnx", "model.py", "predictor.py", "model.json")),
    }
    assert described["files"].keys() == found - {"package.json"}
    assert described["labels"] == ["Größe", "b"]
    assert described["parity"] == {"images": 3, "boxes": 0.0, "scores": 0.001}
    assert read_settings(folder / "triton" / "1" / "model.json") == content.settings
    known = json.loads((folder / "probe.json").read_text())
    assert [item["label"] for item in known["classes"]] == ["b", "Größe"]


def test_the_same_graph_is_written_once(content: package.Content, tmp_path: Path) -> None:
    first, _ = package.write(content, tmp_path / "store")
    stamp = (first / "package.json").stat().st_mtime_ns
    second, _ = package.write(content, tmp_path / "store")
    assert first == second
    assert (second / "package.json").stat().st_mtime_ns == stamp


def test_a_crash_leaves_no_package(content: package.Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(package, "_sync", crash)
    with pytest.raises(KeyboardInterrupt):
        package.write(content, tmp_path / "store")
    assert [path.name for path in (tmp_path / "store").iterdir() if not path.name.startswith(".")] == []
    monkeypatch.undo()
    folder, _ = package.write(content, tmp_path / "store")
    assert [path.name for path in (tmp_path / "store").iterdir()] == [folder.name]


def test_outputs_depend_on_the_task() -> None:
    detector = triton.model_config("m", Settings("Detection", ("a",), 640, 32))
    classifier = triton.model_config("m", Settings("Classification", ("a", "b", "c"), 64, 64))
    assert [output["name"] for output in detector["output"]] == ["prediction", "count", "boxes", "scores", "class_ids"]
    assert classifier["output"][1] == {"name": "probabilities", "data_type": "TYPE_FP32", "dims": [3]}
    assert detector["parameters"]["confidence"] == {"string_value": "0.25"}
