"""A second look at a source with one new image fetches one image: the store has the others, and the servers confirm it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import biigle_server
import cvat_server
import labelbox_server
from biigle_server import Biigle, Volume
from cvat_server import Cvat, reef
from fetched_sources import Step, allow, image
from labelbox_server import Labelbox
from object_storage import ObjectStorage, bucket, object_storage
from pelagos_contract.dataset import PreparationResult
from pelagos_contract.remote_sources import SECRET_CONTENT
from pelagos_pipelines.fetching import UnchangedError, Validators, Wanted, download
from pelagos_pipelines.sources import cvat as cvat_source
from pelagos_pipelines.sources.kept import FILE, Kept
from web_servers import Reply, Request, Server, serving

__all__ = ["bucket", "object_storage"]

IMAGES = {f"{number}.png": image(number) for number in range(6)}
NEW = image(9)
WHOLE = sum(map(len, IMAGES.values()))
DETECTION = {"task": "Detection", "split": {"ratios": {"train": 100, "validation": 0, "test": 0}}}


class LabelStudio:
    """A project with a task for each image, which is uploaded or stored elsewhere."""

    def __init__(self) -> None:
        self.uploads, self.elsewhere = dict(list(IMAGES.items())[:4]), dict(list(IMAGES.items())[4:])
        self.changed = 1

    def __call__(self, request: Request) -> Reply:
        if request.path == "/api/projects/3":
            config = '<View><Image name="i" value="$image"/><RectangleLabels name="l" toName="i"/></View>'
            return Reply({"id": 3, "title": "reef", "label_config": config})
        if request.path == "/api/tasks":
            return Reply(
                {"total": len(self._places), "tasks": [self._task(*each) for each in enumerate(self._places, 1)]}
            )
        name = request.path.rpartition("/")[2]
        if request.path.startswith("/data/upload/3/"):
            return Reply(self.uploads[name[9:]])
        content = self.elsewhere[name]
        return Reply(content, etag=f'W/"{hashlib.md5(content).hexdigest()}"')

    @property
    def _places(self) -> list[str]:
        uploaded = [
            f"/data/upload/3/{hashlib.md5(content).hexdigest()[:8]}-{name}" for name, content in self.uploads.items()
        ]
        return [*uploaded, *(f"/elsewhere/{name}" for name in self.elsewhere)]

    def _task(self, number: int, place: str) -> dict[str, Any]:
        sizes = {"original_width": 40, "original_height": 30, "image_rotation": 0}
        value = {"x": 5, "y": 10, "width": 40, "height": 50, "rotation": 0, "rectanglelabels": ["crab"]}
        region = {"id": "r", "type": "rectanglelabels", "from_name": "l", "to_name": "i", **sizes, "value": value}
        drawn = {"id": number, "result": [region], "created_at": "2026-11-01T10:00:00Z"}
        about = {"id": number, "updated_at": f"2026-11-0{self.changed}T10:00:00Z", "total_annotations": 1}
        return {**about, "data": {"image": place}, "annotations": [drawn], "predictions": []}


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Creates the step for a place, with the server as its source."""

    def make(server: Server, place: str, source: dict[str, Any], secret: dict[str, str], store: str = "") -> Step:
        allow(server, monkeypatch, tmp_path)
        monkeypatch.setenv(SECRET_CONTENT, json.dumps(secret))
        asked = {"url": server.url, "secretRef": {"name": "labels"}, **source}
        return Step(server, tmp_path, place, asked, DETECTION)

    return make


def cvat(server: Server, make: Any) -> tuple[Step, Cvat]:
    service = Cvat(tasks={1: reef(IMAGES, project=5, subset="train")}, projects={5: "survey"}, prepares=0)
    server.handler = service
    return make(server, "cvat", {"project": 5}, {"token": cvat_server.TOKEN}), service


def one_more(service: Cvat) -> None:
    service.tasks[2] = reef({"new.png": NEW}, project=5, subset="train", updated="2026-11-05T10:00:00Z")


def brought(result: PreparationResult) -> int:
    """The number of bytes that were downloaded."""
    assert result.origin is not None
    return result.origin.bytes or 0


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(lambda request: Reply(b"", 404)) as server:
        yield server


def test_cvat_exports_without_images_and_gives_the_new_one(server: Server, step: Any) -> None:
    asked, service = cvat(server, step)
    first = asked.run()
    one_more(service)

    second = asked.run(retry="again")

    assert (first.images, second.images, second.annotations) == (6, 7, 7)
    assert brought(second) < len(NEW) + 4000 < WHOLE < brought(first)
    assert [each.query["number"] for each in server.seen if each.query.get("type") == "frame"] == ["0"]
    assert [each.query["save_images"] for each in server.seen if each.path.endswith("/export")] == ["true", "false"]


def test_what_people_drew_on_images_of_the_store_is_the_new_version(server: Server, step: Any) -> None:
    """The result is the same as if everything had been fetched."""
    asked, service = cvat(server, step)
    asked.run()
    service.tasks[1].boxes["3.png"] = []
    service.tasks[1].updated = "2026-11-05T10:00:00Z"

    second = asked.run(retry="again")

    assert second.annotations == 5
    shutil.rmtree(asked.root / "store")
    shutil.rmtree(asked.root / "report")
    assert asked.run().version == second.version


@pytest.mark.parametrize(
    "change",
    [
        lambda service: setattr(service.tasks[1], "chunks", "2026-11-05T10:00:00Z"),
        lambda service: service.tasks.update(
            {2: reef({f"n{each}.png": image(20 + each) for each in range(9)}, project=5)}
        ),
    ],
    ids=["other images", "mostly new ones"],
)
def test_cvat_exports_all_where_that_is_less_work(server: Server, step: Any, change: Any) -> None:
    asked, service = cvat(server, step)
    asked.run()
    change(service)
    service.tasks[1].updated = "2026-11-05T10:00:00Z"

    asked.run(retry="again")

    assert [each.query["save_images"] for each in server.seen if each.path.endswith("/export")] == ["true", "true"]


@pytest.mark.parametrize(
    "name", ["../a.png", "a/../b.png", "a//b.png", ".a.png", "a\nb.png", f"{'a' * 300}.png", "/a.png"]
)
def test_names_that_no_folder_can_hold_are_left_to_the_export(name: str) -> None:
    assert not cvat_source._is_plain(f"images/{name}")
    assert cvat_source._is_plain("images/train/dive 1/\u00e4.png")


def test_an_image_that_cvat_does_not_give_is_left_out_by_name(server: Server, step: Any) -> None:
    asked, service = cvat(server, step)
    asked.run()
    one_more(service)
    service.tasks[2].lost = {"new.png"}

    second = asked.run(retry="again")

    assert second.images == 6
    assert [(each.reason, each.files) for each in second.excluded] == [("NotFetched", 1)]


def damage(store: Path) -> None:
    for blob in (store / "blobs").glob("*/*"):
        blob.write_bytes(bytes(blob.stat().st_size))


@pytest.mark.parametrize(
    "harm",
    [
        damage,
        lambda store: shutil.rmtree(store / "blobs"),
        lambda store: (store / FILE).write_bytes(b'{"schema": 1, "images": {"a": [1]}}'),
    ],
)
def test_what_the_store_has_lost_is_fetched(server: Server, step: Any, harm: Any) -> None:
    asked, service = cvat(server, step)
    asked.run()
    harm(asked.root / "store")
    one_more(service)

    assert asked.run(retry="again").images == 7


def test_biigle_is_asked_for_what_has_changed(server: Server, step: Any) -> None:
    square = [2.0, 3.0, 20.0, 3.0, 20.0, 25.0, 2.0, 25.0]
    shapes = [(name, "crab", "Rectangle", square) for name in IMAGES]
    service = Biigle({4: Volume("station", dict(IMAGES), shapes)}, prepares=0)
    server.handler = service
    secret = {"email": biigle_server.EMAIL, "token": biigle_server.TOKEN}
    asked = step(server, "biigle", {"volume": 4}, secret)
    first = asked.run()
    service.volumes[4].images["new.png"] = NEW
    service.volumes[4].shapes.append(("new.png", "crab", "Rectangle", square))

    second = asked.run(retry="again")

    assert (first.images, second.images) == (6, 7)
    assert (brought(first), brought(second)) == (WHOLE, len(NEW))


def test_labelbox_is_asked_for_what_has_changed_though_addresses_are_signed_anew(server: Server, step: Any) -> None:
    service = Labelbox(dict(IMAGES), name=server.url, prepares=0)
    server.handler = service
    asked = step(server, "labelbox", {"project": "reef1"}, {"token": labelbox_server.KEY})
    first = asked.run()
    service.images["new.png"], service.active = NEW, "2026-11-05T10:00:00.000Z"

    second = asked.run(retry="again")

    assert (first.images, second.images) == (6, 7)
    assert (brought(first), brought(second)) == (WHOLE, len(NEW))


def test_label_studio_is_not_asked_for_uploads_and_others_for_what_has_changed(server: Server, step: Any) -> None:
    service = LabelStudio()
    server.handler = service
    asked = step(server, "labelStudio", {"project": 3}, {"token": "legacy"})
    first = asked.run()
    service.uploads["new.png"], service.changed = NEW, 2
    service.elsewhere["4.png"] = image(30)
    before = len(server.seen)

    second = asked.run(retry="again")

    assert (first.images, second.images) == (6, 7)
    assert (brought(first), brought(second)) == (WHOLE, len(NEW) + len(image(30)))
    asked_for = [each.path.rpartition("/")[2] for each in server.seen[before:] if "/api/" not in each.path]
    assert [name.rpartition("-")[2] for name in asked_for] == ["new.png", "4.png", "5.png"]


def test_a_store_in_object_storage_gives_its_images(
    server: Server, step: Any, object_storage: ObjectStorage, bucket: str, tmp_path: Path
) -> None:
    content = IMAGES["0.png"]
    digest = hashlib.sha256(content).hexdigest()
    object_storage.put(bucket, f"store/blobs/{digest[:2]}/{digest[2:]}", content)
    from pelagos_pipelines.storage.buckets import Bucket

    place = Bucket(f"s3://{bucket}/store")
    first = Kept(tmp_path, place)
    first.note("one", "a.png", Validators('"e"'))
    first.note("gone", "b.png", Validators('"f"'))
    first.write({"a.png": (digest, len(content)), "b.png": ("0" * 64, 3)})

    again = Kept(tmp_path, place)
    seen = again.find("one")

    assert seen is not None
    assert again.bring(seen, tmp_path / "out" / "a.png")
    assert ((tmp_path / "out" / "a.png").read_bytes(), seen.etag) == (content, '"e"')
    assert again.find("gone") is None


def test_a_server_that_says_unchanged_to_all_is_asked_for_the_whole_where_nothing_is_kept(tmp_path: Path) -> None:
    with serving(lambda request: Reply(b"x", etag='"1"')) as server, server.client() as client:
        wanted = Wanted(server.url, tmp_path / "file")
        found = download(client, wanted)
        with pytest.raises(UnchangedError):
            download(client, Wanted(server.url, tmp_path / "again", unless=found.validators))
        assert not (tmp_path / "again").exists()
        assert download(client, Wanted(server.url, tmp_path / "again", unless=Validators())).size == 1
