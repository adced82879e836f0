"""Dataset -> TrainingRun -> ModelService -> prediction, and what must hold around it."""

from __future__ import annotations

import json
import re
import shlex
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import command_lines
from installations import BIN, ENVIRONMENTS, ROOT, Installation, dataset, service, training
from pelagos.api import reasons
from pelagos_contract.progress import OF_DATASETS, OF_TRAININGS, Stage

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(900)]
IN_ORDER = True
"""The tests of this module build on each other."""

FRAMES = "samples/phytoplankton-frames"
GROUPED = {"policy": "Grouped", "ratios": {"train": 72, "validation": 14, "test": 14}}
REFERENCE = """
import json, sys, cv2
from ultralytics import YOLO
image, size, confidence = cv2.imread(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
found = YOLO(sys.argv[1]).predict(image, imgsz=size, conf=confidence, verbose=False)[0].boxes
print(json.dumps([found.xyxy.tolist(), found.conf.tolist(), found.cls.tolist()]))
"""
RESOURCES = (
    dataset("frames", FRAMES, "Detection", split=GROUPED, deletionPolicy="Delete"),
    training(
        "detector",
        "frames",
        "yolov8n",
        3,
        size=96,
        gates=[{"metric": "test/mAP50", "minimum": "0"}],
        register={"model": "detector", "alias": "champion"},
        deletionPolicy="Delete",
    ),
    service(
        "detector", {"trainingRunRef": {"name": "detector"}}, thresholds={"confidence": "0.01"}, deletionPolicy="Delete"
    ),
)


@pytest.fixture(scope="module")
def served(site: Installation) -> Installation:
    """The three resources, Ready."""
    site.apply(*RESOURCES)
    site.wait_ready("modelservice", "detector", 600)
    return site


def unseen_image(site: Installation) -> Path:
    """An image of the test split."""
    version = Path(site.get("dataset", "frames")["status"]["uri"])
    manifest = json.loads((version / "manifest.json").read_text(encoding="utf-8"))
    image = next(image for image in manifest["images"] if image["split"] == "test")
    return site.home / "data" / FRAMES / str(image["path"])


def conditions(body: Any) -> dict[str, str]:
    """Conditions of the requested features; a publication was not requested."""
    asked = (each for each in body["status"]["conditions"] if each["reason"] != reasons.NOT_ASKED_FOR)
    return {condition["type"]: condition["status"] for condition in asked}


def own_tracked_runs(site: Installation, status: Any) -> list[Any]:
    """MLflow's runs with the inputs of this TrainingRun: other tests of this folder leave runs as well."""
    digest = {"key": "pelagos.dev/inputs-digest", "value": status["inputsDigest"]}
    return [run for run in site.tracked_runs() if digest in run["data"]["tags"]]


def test_all_conditions_of_the_three_resources_hold(served: Installation) -> None:
    for kind, name in (("dataset", "frames"), ("trainingrun", "detector"), ("modelservice", "detector")):
        assert set(conditions(served.get(kind, name)).values()) == {"True"}, (
            f"{kind}: {conditions(served.get(kind, name))}"
        )


def test_status_tells_how_long_each_stage_took(served: Installation) -> None:
    of_datasets = [one for one in OF_DATASETS if one is not Stage.TILING]
    of_trainings = [one for one in OF_TRAININGS if one not in {Stage.SEARCH, Stage.LEAVE_ONE_OUT}]
    for kind, name, stages in (("dataset", "frames", of_datasets), ("trainingrun", "detector", of_trainings)):
        progress = served.get(kind, name)["status"]["progress"]
        assert [ended["stage"] for ended in progress["stages"]] == list(stages)
        assert "stage" not in progress


def test_the_test_split_holds_only_organisms_that_training_never_saw(served: Installation) -> None:
    version = Path(served.get("dataset", "frames")["status"]["uri"])
    images = json.loads((version / "manifest.json").read_text(encoding="utf-8"))["images"]
    groups = {split: {image["group"] for image in images if image["split"] == split} for split in ("train", "test")}

    assert groups["train"]
    assert groups["test"]
    assert groups["train"].isdisjoint(groups["test"])


def test_the_served_model_predicts_what_the_training_framework_predicts(served: Installation) -> None:
    image = unseen_image(served)
    (checkpoint,) = (served.home / "objects" / "workspaces").glob("training-*/checkpoints/best.pt")
    python = ENVIRONMENTS / "pipelines/bin/python"
    want = json.loads(served.run(python, "-c", REFERENCE, checkpoint, image, "96", "0.01").splitlines()[-1])

    got = json.loads(served.pelagos("predict", "detector", image, "-o", "json"))

    detections = got["detections"]
    assert len(detections) == len(want[0])
    assert detections, "the threshold is so low that there must be detections"
    for detection, box, score, category in zip(detections, *want, strict=True):
        assert detection["box"] == pytest.approx(box, abs=1)
        assert detection["score"] == pytest.approx(score, abs=0.01)
        assert detection["classId"] == category


def test_the_lineage_from_images_to_endpoint_is_complete(served: Installation) -> None:
    data = served.get("dataset", "frames")["status"]
    run = served.get("trainingrun", "detector")["status"]
    endpoint = served.get("modelservice", "detector")["status"]
    (tracked,) = [entry for entry in served.tracked_runs() if entry["info"]["run_id"] == run["tracking"]["run"]]

    assert run["dataset"]["version"] == data["version"]
    assert run["model"]["onnxSha256"] == endpoint["model"]["onnxSha256"]
    assert tracked["info"]["status"] == "FINISHED"
    assert tracked["inputs"]["dataset_inputs"][0]["dataset"]["digest"] in data["version"]


def test_applying_the_same_resources_again_changes_nothing(served: Installation) -> None:
    before = served.get("trainingrun", "detector")["metadata"]["resourceVersion"]

    said = served.apply(*RESOURCES)

    assert [line.rsplit(" ", 1)[1] for line in said.splitlines()] == ["unchanged"] * 3
    assert served.get("trainingrun", "detector")["metadata"]["resourceVersion"] == before


def test_the_sample_resources_are_accepted_by_the_api_server(served: Installation) -> None:
    for folder in ("manifests/samples", "manifests/samples/classification"):
        said = served.kubectl("apply", "--dry-run=server", "-f", str(ROOT / folder))
        assert said.count("(server dry run)") == 3


def test_a_sample_of_a_format_is_tried_as_its_page_says(served: Installation, tmp_path: Path) -> None:
    programs: dict[str, Callable[..., str]] = {"kubectl": served.kubectl, "pelagos": served.pelagos}
    for command in re.findall(r"^\$ (.+)$", (ROOT / "docs/formats.md").read_text(encoding="utf-8"), re.M):
        program, *words = shlex.split(command)
        named = {"biigle-for-cvat": tmp_path / "cvat"}
        programs[program](
            *(str(named.get(word, ROOT / word if word.startswith("manifests/") else word)) for word in words)
        )

    assert (tmp_path / "cvat/annotations.xml").exists()
    served.kubectl("delete", "dataset", "sample-biigle")


def test_nothing_that_the_main_job_wrote_is_open_to_other_users(served: Installation) -> None:
    assert served.open_to_others() == []


def test_metrics_tell_of_resources_and_probes(served: Installation) -> None:

    port = json.loads((served.home / "operator.json").read_text(encoding="utf-8"))["metrics_port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        text = answer.read().decode()

    assert 'pelagos_resources{kind="ModelService",ready="True"} 1.0' in text
    assert 'pelagos_model_probes_total{outcome="correct"}' in text


def test_no_secret_is_in_any_command_line(served: Installation) -> None:
    secrets = command_lines.secrets_of(served.home)
    token = (served.home / "control-plane/tokens.csv").read_bytes().split(b",")[0]
    assert token in secrets
    assert served.processes("tritonserver") != []
    assert served.processes("envoy") != []
    assert command_lines.told(secrets) == []


def test_a_second_up_says_that_it_runs_already(served: Installation) -> None:
    assert "already runs" in served.run(BIN / "pelagos", "up", check=False)


def test_stopping_and_starting_again_trains_nothing_twice(served: Installation) -> None:
    before = served.get("trainingrun", "detector")["status"]
    served.pelagos("down")
    assert served.processes() == []

    served.pelagos("up")

    endpoint = served.get("modelservice", "detector")["status"]["endpoints"]["http"]
    with urllib.request.urlopen(f"{endpoint}/v2/models/detector/ready", timeout=60) as answer:
        assert answer.status == 200, "it was waited for"
    served.wait_ready("modelservice", "detector", 60)
    after = served.wait_ready("trainingrun", "detector", 60)["status"]
    assert after["startedAt"] == before["startedAt"]
    assert after["model"] == before["model"]
    assert len(own_tracked_runs(served, after)) == 1


def test_deletion_leaves_no_process_and_no_data(served: Installation) -> None:
    store = Path(served.get("dataset", "frames")["status"]["uri"]).parents[1]
    status = served.get("trainingrun", "detector")["status"]
    package = Path(status["model"]["uri"])

    served.kubectl("delete", "dataset/frames", "modelservice/detector", "trainingrun/detector", "--timeout=60s")

    assert served.processes("tritonserver") == []
    assert not store.exists()
    assert not package.exists()
    assert own_tracked_runs(served, status) == []
    assert not (served.home / "runs" / status["pipelineRun"]["id"]).exists()
