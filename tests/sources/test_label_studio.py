"""A project of a real Label Studio server becomes a JSON export with images, and a version; looking again downloads nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fetched_sources import Step, allow, image
from pelagos_contract import source_hosts
from pelagos_contract.annotation_tools import LabelStudioSource
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.remote_sources import SECRET_CONTENT, Origin
from pelagos_contract.sources import VolumeSource
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import label_studio as label_studio_format
from pelagos_pipelines.annotations import masks, reading, shapes
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import Asked, Collection, ImageRecord, SourceFiles
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.fetching import Client, Credentials, Policy
from pelagos_pipelines.sources import label_studio as place
from pelagos_pipelines.sources import volume
from pelagos_pipelines.sources.place import Errand
from real_label_studio import SERVER, LabelStudio, box
from web_servers import Reply, Server, quick, serving

IMAGES = {f"dive {number}.png": image(number) for number in range(3)}


@contextmanager
def errand(folder: Path, allowed: str, token: str) -> Iterator[Errand]:
    policy = Policy.read({source_hosts.VARIABLE: allowed})
    with Client(policy, "source.labelStudio", quick(), authority="") as client:
        yield Errand(client, folder, {"token": token})


def fetched(server: LabelStudio, project: int, folder: Path, *allowed: str) -> tuple[SourceFiles, Origin]:
    asked = LabelStudioSource(url=server.url, project=project)
    with errand(folder, ", ".join((server.url, *allowed)), server.token) as how:
        return place.fetch(asked, how, place.look(asked, how))


def export(tree: SourceFiles) -> list[dict[str, Any]]:
    name = next(path for path in tree.files if path.endswith(".json"))
    return list(json.loads(tree.read(name, 10**7)))


@pytest.fixture
def project(label_studio: LabelStudio) -> int:
    """Three uploaded images: two with a box, and one with a model's prediction."""
    number = label_studio.project()
    label_studio.upload(number, IMAGES)
    first, second, third = (task["id"] for task in label_studio.tasks(number))
    label_studio.annotate(first, box("crab", 10, 10, 30, 40))
    label_studio.annotate(second, box("fish", 20, 10, 30, 40), box("crab", 50, 50, 20, 20))
    guess = {"task": third, "result": [box("fish", 5, 5, 50, 50)], "score": 0.7, "model_version": "reef-1"}
    label_studio.call("POST", "/api/predictions/", guess)
    return number


def test_uploaded_images_come_with_all_that_was_drawn(label_studio: LabelStudio, project: int, tmp_path: Path) -> None:
    tree, origin = fetched(label_studio, project, tmp_path)
    tasks = export(tree)
    assert [len(task["annotations"]) for task in tasks] == [1, 1, 0]
    assert tasks[2]["predictions"][0]["model_version"] == "reef-1"
    shown = {task["data"]["image"]: task for task in tasks}
    assert sorted(shown) == list(tree.images)
    contents = [tree.read(name, 10**6) for name in shown]
    assert contents == list(IMAGES.values())
    assert (origin.version, origin.files) == (f"project {project} (reef)", 4)
    assert (tree.excluded, tree.warnings) == ((), ())


def test_what_is_read_is_what_the_server_exports(label_studio: LabelStudio, project: int, tmp_path: Path) -> None:
    tree, _ = fetched(label_studio, project, tmp_path)
    told = label_studio.call("GET", f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=true")

    def drawn(tasks: list[dict[str, Any]]) -> Any:
        return [[(each["result"], each["completed_by"]) for each in task["annotations"]] for task in tasks]

    assert drawn(export(tree)) == drawn(sorted(told, key=lambda task: task["id"]))


def test_what_people_made_of_our_models_suggestions_comes_back(
    label_studio: LabelStudio, project: int, tmp_path: Path
) -> None:
    task = label_studio.tasks(project)[2]["id"]
    suggested = {"result": [box("fish", 5, 5, 50, 50), box("crab", 70, 70, 10, 10)], "score": 0.4}
    label_studio.call("POST", "/api/predictions/", {"task": task, "model_version": "pelagos/reef@m1", **suggested})
    label_studio.annotate(task, box("fish", 8, 5, 50, 50), box("crab", 20, 70, 10, 10))

    tree, _ = fetched(label_studio, project, tmp_path)
    found = label_studio_format.FORMAT.read(tree, lambda _: None, Asked(Task.DETECTION))

    (corrected,) = found.corrections
    assert (corrected.model, corrected.images, corrected.predicted) == ("pelagos/reef@m1", 1, 2)
    assert (corrected.moved, corrected.added, corrected.removed) == (1, 1, 1)


def test_a_look_sees_what_people_draw(label_studio: LabelStudio, project: int, tmp_path: Path) -> None:
    asked = LabelStudioSource(url=label_studio.url, project=project)
    with errand(tmp_path, label_studio.url, label_studio.token) as how:
        states = [place.look(asked, how).state, place.look(asked, how).state]
        task = label_studio.tasks(project)[0]
        annotation = task["annotations"][0]["id"]
        label_studio.call("PATCH", f"/api/annotations/{annotation}/", {"result": [box("fish", 11, 10, 30, 40)]})
        states.append(place.look(asked, how).state)
        label_studio.call("DELETE", f"/api/annotations/{annotation}/")
        states.append(place.look(asked, how).state)
    assert states[0] == states[1]
    assert len(set(states)) == 3


def test_a_version_is_made_of_it(
    label_studio: LabelStudio, project: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_studio.annotate(label_studio.tasks(project)[2]["id"], box("fish", 5, 5, 50, 50))
    server = Server(lambda request: Reply(), url=label_studio.url)
    allow(server, monkeypatch, tmp_path)
    monkeypatch.setenv(SECRET_CONTENT, json.dumps({"token": label_studio.token}))
    asked = {"url": label_studio.url, "project": project, "secretRef": {"name": "labels"}}
    step = Step(
        server,
        tmp_path,
        "labelStudio",
        asked,
        {"task": "Detection", "split": {"ratios": {"train": 100, "validation": 0, "test": 0}}},
    )
    result = step.run()
    assert (result.images, {each.name: each.annotations for each in result.classes}) == (3, {"crab": 2, "fish": 2})
    assert step.run(retry="again") == result
    assert label_studio.token not in (tmp_path / "report" / "result.json").read_text()


def test_images_elsewhere_are_fetched_where_that_is_allowed(label_studio: LabelStudio, tmp_path: Path) -> None:
    with serving(lambda request: Reply(IMAGES["dive 1.png"])) as shelf:
        number = label_studio.project()
        places = [
            f"{shelf.url}/a/reef.png",
            f"{shelf.url}/a/REEF 1.png",
            f"{shelf.url}/a/reef.png?v=2",
            f"{shelf.url}/plain",
        ]
        label_studio.add(number, [{"data": {"image": each}} for each in places])
        tree, _ = fetched(label_studio, number, tmp_path, shelf.url)
        assert all("authorization" not in each.headers for each in shelf.seen)
        assert len(tree.images) == len(shelf.seen) == 4
        assert {"images/a/reef.png", "images/plain.png"} < set(tree.images)
        with pytest.raises(RefusedError) as caught:
            fetched(label_studio, number, tmp_path / "again")
    assert caught.value.failure.reason is Reason.SOURCE_NOT_ALLOWED


def test_images_that_cannot_be_had_are_excluded_by_name_and_reason(label_studio: LabelStudio, tmp_path: Path) -> None:
    def handler(request: Any) -> Reply:
        return Reply(IMAGES["dive 1.png"]) if "here" in request.path else Reply(b"", 404)

    with serving(handler) as shelf:
        number = label_studio.project()
        places = [
            "s3://bucket/reef.png",
            f"{shelf.url}/gone.png",
            f"{shelf.url}/here.png",
            "/data/local-files/?d=../etc/x.png",
            "http://[::1/reef.png",
        ]
        tasks: list[dict[str, Any]] = [{"data": {"image": each}} for each in places]
        tasks[0]["annotations"] = [{"result": [box("crab", 1, 1, 5, 5)]}]
        label_studio.add(number, tasks)
        tree, _ = fetched(label_studio, number, tmp_path, shelf.url)
    assert tree.images == ("images/here.png",)
    assert {each.reason for each in tree.excluded} == {ExclusionReason.NOT_FETCHED}
    assert len(tree.excluded) == 4
    assert "s3:// is storage that only its server can read" in tree.warnings[0]
    assert "with 1 annotations" in tree.warnings[0]
    assert [task["data"]["image"] for task in export(tree)] == ["images/here.png"]


def test_an_access_that_expires_is_renewed(label_studio: LabelStudio, project: int, tmp_path: Path) -> None:
    asked = LabelStudioSource(url=label_studio.url, project=project)
    with errand(tmp_path, label_studio.url, label_studio.token) as how:
        server = place._Server(asked, how)
        assert server.about().title == "reef"
        server._login = Credentials.bearer("a.b.c")
        assert server.about().title == "reef"


@pytest.mark.parametrize("token", ["0" * 40, "a.b.c"])
def test_a_token_that_is_none_is_said(label_studio: LabelStudio, project: int, tmp_path: Path, token: str) -> None:
    asked = LabelStudioSource(url=label_studio.url, project=project)
    with errand(tmp_path, label_studio.url, token) as how, pytest.raises(RefusedError) as caught:
        place.look(asked, how)
    assert caught.value.failure.reason is Reason.SOURCE_ACCESS_DENIED
    assert token not in caught.value.failure.message


def test_a_project_that_is_not_there_is_waited_for(label_studio: LabelStudio, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        fetched(label_studio, 10**6, tmp_path)
    assert caught.value.failure.reason is Reason.SOURCE_NOT_FOUND


DRAWN = (
    shapes.rectangle("crab", 10.25, 5.5, 20, 12, 33.0, attributes={"sex": "f", "origin": "prediction-changed"}),
    shapes.rectangle("fish <3", 1, 2, 30.125, 20),
    shapes.polygon("crab", (1.5, 2, 30, 2.25, 28, 25)),
    Shape("fish <3", Kind.ELLIPSE, (20, 15, 8, 4, 45)),
    Shape("crab", Kind.POINT, (3, 4)),
    masks.of_array("crab", np.random.default_rng(1).random((20, 30)) > 0.5, (7, 8)),
)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A version as the view for Label Studio: one image with shapes of all kinds, and one without shapes."""
    blob = tmp_path / "blob.png"
    blob.write_bytes(image(0))
    records = (ImageRecord("a.png", 40, 30, split="test", shapes=DRAWN), ImageRecord("b.png", 40, 30))
    (tmp_path / "view").mkdir()
    assert label_studio_format.FORMAT.write is not None
    collection = Collection(Task.INSTANCE_SEGMENTATION, ("crab", "fish <3"), records)
    label_studio_format.FORMAT.write(tmp_path / "view", collection, {"a.png": blob, "b.png": blob})
    return tmp_path / "view"


def test_a_version_comes_back_from_the_server_as_it_was_imported(label_studio: LabelStudio, written: Path) -> None:
    number = label_studio.project(configuration=(written / "config.xml").read_text())
    label_studio.add(number, json.loads((written / "tasks.json").read_text()))
    told = label_studio.call("GET", f"/api/projects/{number}/export?exportType=JSON&download_all_tasks=true")
    (written / "tasks.json").write_text(json.dumps(told))

    faults = Faults()
    tree = volume.collect(VolumeSource(path="."), written)
    ((_, found),) = reading.drawings(label_studio_format.TOOL.parser, tree, ["tasks.json"], faults)

    assert (faults.count, found is not None) == (0, True)
    assert found is not None
    first, second = sorted(found.images, key=lambda each: each.names)
    assert (first.split, second.split, first.is_labelled, second.is_labelled) == ("test", None, True, True)
    assert list(second.shapes) == []
    for one, other in zip(first.shapes, DRAWN, strict=True):
        assert (one.label, one.kind, one.attributes) == (other.label, other.kind, other.attributes)
        assert one.coordinates == pytest.approx(other.coordinates, abs=1e-6)


_CONVERT = """
import json, re, sys
from label_studio_sdk.converter import Converter
from label_studio_sdk.converter.brush import decode_rle
folder = sys.argv[1]
tasks = json.load(open(f"{folder}/tasks.json"))
for each in tasks:
    for result in each["annotations"][0]["result"]:
        if result["type"] == "brushlabels":
            size = (result["original_height"], result["original_width"], 4)
            painted = decode_rle(result["value"].pop("rle")).reshape(size)[:, :, 3] > 0
    kept = ("rectanglelabels", "polygonlabels")
    results = each["annotations"][0]["result"]
    # Boxes that are turned it converts in percents instead of pixels.
    each["annotations"][0]["result"] = [
        one for one in results if one["type"] in kept and not one["value"].get("rotation")
    ]
json.dump(tasks, open(f"{folder}/outlines.json", "w"))
# With key points there is one class for all.
config = re.sub("<KeyPointLabels.*</KeyPointLabels>", "", open(f"{folder}/config.xml").read(), flags=re.DOTALL)
converter = Converter(config=config, project_dir=None, download_resources=False)
converter.convert_to_coco(f"{folder}/outlines.json", f"{folder}/coco", is_dir=False)
found = json.load(open(f"{folder}/coco/result.json"))
names = {one["id"]: one["name"] for one in found["categories"]}
marks = [(names[one["category_id"]], one["bbox"], one.get("segmentation") or []) for one in found["annotations"]]
print(json.dumps([painted.astype(int).tolist(), marks]))
"""


def test_label_studios_own_converter_sees_the_same_pixels_boxes_and_outlines(written: Path) -> None:
    python = SERVER.parent / "python"
    if not python.exists():
        pytest.skip("the environment label-studio is not installed")
    ran = subprocess.run([python, "-c", _CONVERT, written], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]

    painted, marks = json.loads(ran.stdout.splitlines()[-1])

    assert painted == masks.on_image(DRAWN[-1], 40, 30).astype(int).tolist()
    assert [label for label, *_ in marks] == ["fish <3", "crab"]
    for (_, box_, outline), shape in zip(marks, DRAWN[1:3], strict=True):
        assert box_ == pytest.approx(shape.sides)
        if outline:
            assert outline[0] == pytest.approx(shape.coordinates)
