"""A package's description is trusted only if it is the pinned one and has exactly the fields that a package may have."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from model_packages import DESCRIPTION
from pelagos.engines.triton import package as model_package
from pelagos.engines.triton.tasks import TASKS
from pelagos.ports.errors import RejectedError
from pelagos.ports.serving import DesiredService
from pelagos_pipelines.serving import packages, tasks

if TYPE_CHECKING:
    from collections.abc import Callable


def want(content: bytes, **changes: Any) -> DesiredService:
    fields: dict[str, Any] = {
        "uid": "u", "namespace": "n", "name": "s", "model_name": "m", "package_uri": "/p", "onnx_sha256": "a" * 64,
        "manifest_sha256": hashlib.sha256(content).hexdigest(), "max_batch_size": 1, "max_queue_delay": 0, "instances": 1,
        "confidence": "0.25", "iou": "0.7", "cpu": 1, "digest": "d",
    }  # fmt: skip
    return DesiredService(**fields | changes)


def test_what_is_pinned_and_well_formed_is_read() -> None:
    content = json.dumps(DESCRIPTION).encode()
    manifest = model_package.read(content, "here", want(content))
    assert (manifest.labels, manifest.digest("probe.png")) == (["Ceratium", "detritus"], "b" * 64)
    assert packages.describe(content, "here", want(content).manifest_sha256).labels == ("Ceratium", "detritus")


@pytest.mark.parametrize("pin", ["", "0" * 64, "A" * 64, "sha256:" + "0" * 64, "0" * 63])
def test_a_description_with_another_digest_is_refused_whatever_it_says(pin: str) -> None:
    content = json.dumps(DESCRIPTION).encode()
    with pytest.raises(RejectedError):
        model_package.read(content, "here", want(content, manifest_sha256=pin))
    with pytest.raises(packages.RefusedError):
        packages.describe(content, "here", pin)


def at(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set one field."""

    def change(content: dict[str, Any]) -> None:
        target: Any = content
        for name in path[:-1]:
            target = target[name]
        target[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (at("schemaVersion", value=1), "schemaVersion is 1, but 2 and 3 are served: older ones contain code; train or export"),
        (at("schemaVersion", value=None), "schemaVersion is None"),
        (at("schemaVersion", value="2"), "schemaVersion is '2'"),
        (at("schemaVersion", value=True), "schemaVersion is True"),
        (at("schemaVersion", value=4), "schemaVersion is 4, but 2 and 3 are served"),
        (at("backend", value="onnxruntime"), "backend: Extra inputs are not permitted"),
        (at("parameters", value={"EXECUTION_ENV_PATH": "/tmp/x.tar.gz"}), "parameters: Extra inputs"),
        (at("task", value="Ensemble"), "task: Input should be 'Detection', "),
        (at("labels", value=[]), "labels: List should have at least 1 item"),
        (at("labels", value=["a"] * 100_001), "labels: List should have at most 100000 items"),
        (at("labels", 0, value="x" * 1025), "labels.0: String should have at most 1024 characters"),
        (at("labels", 0, value=7), "labels.0: Input should be a valid string"),
        (at("labels", value={"0": "a"}), "labels: Input should be a valid list"),
        (at("input", "imageSize", value=0), "input.imageSize"),
        (at("input", "imageSize", value=10**9), "input.imageSize"),
        (at("input", "imageSize", value=64.5), "input.imageSize"),
        (at("input", "imageSize", value=True), "input.imageSize"),
        (at("input", "stride", value=-1), "input.stride"),
        (at("input", "mean", value=[0]), "input.mean: Extra inputs"),
        (at("thresholds", "confidence", value=1.5), "thresholds.confidence"),
        (at("thresholds", "maxDetections", value=10**9), "thresholds.maxDetections"),
        (at("parity", "boxes", value=float("nan")), "NaN is not a number"),
        (at("parity", "boxes", value=float("inf")), "Infinity is not a number"),
        (at("parity", "boxes", value="0"), "parity.boxes"),
        (at("files", "model.py", value="d" * 64), "files.model.py: Extra inputs are not permitted"),
        (at("files", "../model.onnx", value="d" * 64), "files.../model.onnx: Extra inputs"),
        (at("files", "triton/config.json", value="d" * 64), "files.triton/config.json: Extra inputs"),
        (at("files", "weights.bin", value="d" * 64), "files.weights.bin: Extra inputs"),
        (lambda found: found["files"].pop("probe.json"), "files.probe.json: Field required"),
        (at("files", "probe.png", value="B" * 64), "files.probe.png: String should match pattern"),
        (at("files", "model.onnx", value="d" * 64), f"onnxSha256 is {'a' * 64}, and model.onnx has {'d' * 64}"),
    ],
)  # fmt: skip
def test_what_no_package_says_is_refused_by_name_though_it_is_pinned(
    change: Callable[[dict[str, Any]], object], words: str
) -> None:
    described = copy.deepcopy(DESCRIPTION)
    change(described)
    content = json.dumps(described).encode()
    with pytest.raises(RejectedError, match=re.escape(words)) as refused:
        model_package.read(content, "s3://b/package.json", want(content))
    assert "s3://b/package.json" in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"7",
        b"{",
        b'{"a": 1' + b"0" * 5000 + b"}",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"schemaVersion": 2}',
        b"{}",
    ],
    ids=lambda content: repr(content[:12]),
)
def test_what_is_no_description_is_refused_by_both_who_read_it(content: bytes) -> None:
    with pytest.raises(RejectedError, match="here"):
        model_package.read(content, "here", want(content))
    with pytest.raises(packages.RefusedError, match="here"):
        packages.describe(content, "here", want(content).manifest_sha256)


def test_a_description_that_is_too_large_is_not_even_parsed() -> None:
    content = json.dumps(DESCRIPTION | {"labels": ["x" * (5 << 20)]}).encode()
    with pytest.raises(
        RejectedError, match=r"here is larger than the 4194304 bytes that package\.json of a package may have"
    ):
        model_package.read(content, "here", want(content))
    with pytest.raises(packages.RefusedError, match="larger than the 4194304 bytes"):
        packages.describe(content, "here", want(content).manifest_sha256)


def test_a_package_of_another_graph_than_the_service_wants_is_refused() -> None:
    content = json.dumps(DESCRIPTION).encode()
    with pytest.raises(RejectedError, match="the service asks for 0000"):
        model_package.read(content, "here", want(content, onnx_sha256="0000"))


ANSWER = {"task": "Detection", "width": 1, "height": 1, "detections": []}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (ANSWER | {"task": "Classification"}, "task"),
        ({"task": "Detection", "width": 1, "height": 1}, "detections: Field required"),
        (ANSWER | {"detections": [{"label": "a"}]}, "detections.0"),
        (ANSWER | {"detections": [{"label": "a", "classId": 0, "score": 1e999, "box": [0, 0, 1, 1]}]}, "Infinity"),
        (ANSWER | {"detections": [{"label": "a", "classId": 0, "score": 0.5, "box": [0, 0, 1]}]}, "detections.0.box"),
    ],
)
def test_a_known_answer_that_is_none_is_refused(answer: dict[str, Any], words: str) -> None:
    manifest = model_package.Manifest.model_validate(DESCRIPTION)
    assert model_package.known(manifest, b"png", json.dumps(ANSWER).encode(), "here").expected == ANSWER
    with pytest.raises(RejectedError, match=words):
        model_package.known(manifest, b"png", json.dumps(answer).encode(), "here")


def test_both_who_read_packages_know_the_same_files_and_sizes() -> None:
    assert packages.LARGEST == model_package.LARGEST
    assert packages.FILES == model_package.FILES
    assert packages.SCHEMA_VERSION == model_package.SCHEMA_VERSION
    assert packages.CALIBRATED_VERSION == model_package.CALIBRATED_VERSION
    assert packages.TEMPERATURES == model_package.TEMPERATURES
    assert packages.OFFSETS == model_package.OFFSETS


CALIBRATED: dict[str, Any] = {
    **DESCRIPTION,
    "schemaVersion": 3,
    "calibration": {"temperature": 1.5, "offset": -2.0},
    "thresholds": {**DESCRIPTION["thresholds"], "classes": {"Ceratium": 0.4}},
}


def test_how_sure_scores_are_is_read_by_both() -> None:
    content = json.dumps(CALIBRATED).encode()
    manifest, described = model_package.read(content, "here", want(content)), packages.describe(content, "here", None)

    assert manifest.calibration == model_package.Calibration(temperature=1.5, offset=-2.0)
    assert described.scaling == (1.5, -2.0)
    assert manifest.thresholds.classes == described.confidences == {"Ceratium": 0.4}


@pytest.mark.parametrize("version", [2, 3])
def test_a_package_that_says_nothing_of_it_has_the_scores_of_its_network(version: int) -> None:
    content = json.dumps(DESCRIPTION | {"schemaVersion": version}).encode()

    assert model_package.read(content, "here", want(content)).calibration is None
    assert packages.describe(content, "here", None).scaling is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        *((at("calibration", "temperature", value=value), "temperature") for value in (0, -1, 0.04, 21, "1", None, True, [1])),
        *((at("calibration", "offset", value=value), "offset") for value in (-21, 20.5, "0", None, True)),
        *((at("calibration", "temperature", value=float(value)), "here") for value in ("nan", "inf")),
        (at("calibration", "slope", value=1.0), "calibration"),
        (at("calibration", value=1.5), "calibration"),
        (at("calibration", value=[]), "calibration"),
        (at("calibration", value={}), "calibration"),
        *((at("thresholds", "classes", "Ceratium", value=value), "thresholds.classes") for value in (-0.1, 1.1, "0.4", True)),
        *((at("thresholds", "classes", "Ceratium", value=float(value)), "here") for value in ("nan", "inf")),
        (at("thresholds", "classes", "whale", value=0.4), "thresholds.classes"),
        (at("thresholds", "classes", value=["Ceratium"]), "thresholds.classes"),
        (at("thresholds", "classes", value=7), "thresholds.classes"),
        (at("schemaVersion", value=2), "is only for packages with schemaVersion 3"),
        (at("task", value="SemanticSegmentation"), "here"),
        (at("task", value="PanopticSegmentation"), "here"),
    ],
)  # fmt: skip
def test_what_no_package_says_of_how_sure_scores_are_is_refused_by_both(
    change: Callable[[dict[str, Any]], object], words: str
) -> None:
    described = copy.deepcopy(CALIBRATED)
    change(described)
    content = json.dumps(described).encode()

    with pytest.raises(RejectedError, match=words):
        model_package.read(content, "here", want(content))
    with pytest.raises(packages.RefusedError, match=words):
        packages.describe(content, "here", None)


def test_a_head_is_one_that_is_served() -> None:
    """Both planes know the same heads, and older packages, which name none, keep their meaning."""
    segmenting = {**DESCRIPTION, "task": "InstanceSegmentation"}
    for head in tasks.heads("InstanceSegmentation"):
        content = json.dumps({**segmenting, "head": head}).encode()
        assert (
            model_package.read(content, "here", want(content)).head
            == packages.describe(content, "here", None).head
            == head
        )
    assert TASKS.named("InstanceSegmentation").heads == tasks.heads("InstanceSegmentation")
    assert "head" not in DESCRIPTION
    for other in ({**segmenting, "head": "another"}, segmenting, {**DESCRIPTION, "head": "yolov8-seg"}):
        content = json.dumps(other).encode()
        with pytest.raises(RejectedError, match="head is "):
            model_package.read(content, "here", want(content))
        with pytest.raises(packages.RefusedError, match="'head' of a package"):
            packages.describe(content, "here", None)
