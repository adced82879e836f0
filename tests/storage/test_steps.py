# ruff: noqa: PLR0917 - the arguments of tests are fixtures
"""Whole pipelines with every parameter on object storage. The step that is killed is a process with its own disk.

The results are compared with those of the same steps on folders.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import dataset_versions
from faulty_proxy import Fault, Proxy
from object_storage import ObjectStorage
from pelagos_contract.dataset import PreparationResult
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.model_card import folder_of
from pelagos_contract.splits import SPLITS
from pelagos_contract.tasks import Task
from pelagos_contract.training import TrainingResult
from pelagos_pipelines.preparation import published, versions
from pelagos_pipelines.steps.evaluate import evaluate
from pelagos_pipelines.steps.export import export
from pelagos_pipelines.steps.prepare import prepare
from pelagos_pipelines.steps.train import train
from training.shapes import make_request, make_truth, store

PREPARATION = {
    "source": {"volume": {"path": "samples/shapes"}},
    "split": {"policy": "Provided"},
    "cleaning": {"duplicates": {"action": "Keep"}},
}
EPOCHS = 3


@dataclass(frozen=True)
class Site:
    """Where one installation keeps everything: folders, or prefixes of a bucket."""

    root: str

    def at(self, name: str) -> str:
        return f"{self.root}/{name}"

    def prepare(self, detection: bool) -> None:
        request = PREPARATION | {"task": "Detection" if detection else "Classification"}
        prepare(json.dumps(request), self.at("data"), self.at("datasets/uid"), self.at("reports/preparation"))

    def training(self, request: str) -> list[str]:
        places = (self.at(name) for name in ("data", "models", "reports/training", "workspaces/training"))
        return [request, *places, "", ""]


@pytest.fixture
def source(tmp_path: Path) -> Callable[[bool], Path]:
    """A folder with a source."""

    def make(detection: bool) -> Path:
        folder = tmp_path / "folder" / "data" / "samples" / "shapes"
        task = Task.DETECTION if detection else Task.CLASSIFICATION
        truth = make_truth(tmp_path / "drawn", (6, 3, 3), task)
        store(folder, truth, task)
        return folder

    return make


@pytest.fixture
def upload(object_storage: ObjectStorage, bucket: str) -> Callable[[Path], None]:
    """Puts the source into the bucket as consoles and desktops do: with objects that stand for folders, and with hidden files."""

    def put(folder: Path) -> None:
        for name in ("", "train/", ".DS_Store", "__MACOSX/train/disc/x.png", "train/disc/.hidden.png"):
            object_storage.put(bucket, f"a/tenant/data/samples/shapes/{name}", "" if name.endswith("/") else "no data")
        for file in folder.rglob("*"):
            if file.is_file():
                key = f"a/tenant/data/samples/shapes/{file.relative_to(folder).as_posix()}"
                object_storage.put(bucket, key, file.read_bytes())

    return put


def start_training(disk: Path, parameters: list[str]) -> subprocess.Popen[bytes]:
    """The step train as a process that can be killed, on a machine with an empty disk."""
    disk.mkdir()
    program = "import json, sys; from pelagos_pipelines.steps.train import train; train(*json.loads(sys.argv[1]))"
    with (disk / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", program, json.dumps(parameters)],
            env=os.environ | {"TMPDIR": str(disk)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def left_in(scratch: Path) -> set[str]:
    """The names that finished steps left on the disk."""
    return {path.name for path in (scratch / "pelagos").iterdir()} if (scratch / "pelagos").exists() else set()


def read(storage: ObjectStorage, bucket: str, name: str) -> Any:
    return json.loads(storage.get(bucket, f"a/tenant/{name}"))


@pytest.fixture
def holding(proxy: Proxy) -> Iterator[list[str]]:
    """Holds back the second write of the history until the test ends. Yields the paths of held requests."""
    held: list[str] = []
    seen: list[str] = []

    def second(method: str, path: str) -> Fault | None:
        if method == "PUT" and path.endswith("workspaces/training/history.json"):
            seen.append(path)
            if len(seen) == 2:
                held.append(path)
                return Fault("hang", seconds=20)
        return None

    proxy.fault = second
    yield held
    proxy.fault = lambda method, path: None


def require_alike(result: TrainingResult, report: Path, storage: ObjectStorage, bucket: str) -> None:
    """Report and package are, byte for byte, those on folders, which were made without an interruption."""
    expected = TrainingResult.model_validate_json(report.read_text())
    model = expected.model.model_copy(update={"uri": result.model.uri})
    # Documents contain the training's cost and time, which differ.
    taken: dict[str, Any] = {"cost": result.cost, "documents": result.documents}
    if expected.evidence is not None:
        assert result.evidence is not None
        taken["evidence"] = expected.evidence.model_copy(update={"uri": result.evidence.uri})
        evidence = storage.get(bucket, result.evidence.uri.removeprefix(f"s3://{bucket}/"))
        assert f"sha256:{hashlib.sha256(evidence).hexdigest()}" == expected.evidence.sha256
    assert result == expected.model_copy(update={"model": model, **taken})
    assert [each.name for each in result.documents] == [each.name for each in expected.documents]
    folder = folder_of(result.model.uri).removeprefix(f"s3://{bucket}/")
    for each in result.documents:
        assert hashlib.sha256(storage.get(bucket, f"{folder}/{each.name}")).hexdigest() == each.sha256
    prefix = result.model.uri.removeprefix(f"s3://{bucket}/")
    for file in Path(expected.model.uri).rglob("*"):
        if file.is_file():
            assert storage.get(bucket, f"{prefix}/{file.relative_to(expected.model.uri)}") == file.read_bytes()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("architecture", ["mobilenet_v3_small", "yolov8n"])
def test_a_killed_training_goes_on_from_its_last_epoch_on_another_machine(
    architecture: str,
    source: Callable[[bool], Path],
    upload: Callable[[Path], None],
    bucket: str,
    object_storage: ObjectStorage,
    holding: list[str],
    tmp_path: Path,
    scratch: Path,
) -> None:
    detection = architecture.startswith("yolo")
    folder = source(detection)
    upload(folder)
    here, there = Site(str(tmp_path / "folder")), Site(f"s3://{bucket}/a/tenant")
    here.prepare(detection)
    there.prepare(detection)
    prepared = PreparationResult.model_validate(read(object_storage, bucket, "reports/preparation/result.json"))
    alike = PreparationResult.model_validate_json(Path(here.at("reports/preparation/result.json")).read_text())
    assert prepared.uri == f"s3://{bucket}/a/tenant/datasets/uid/versions/{prepared.version.removeprefix('sha256:')}"
    same = {"uri": prepared.uri, "files": prepared.files, "excluded": prepared.excluded}
    same |= {"report": f"{prepared.uri}/report/report.html"}
    assert prepared == alike.model_copy(update=same)

    request = make_request(architecture, prepared.uri, prepared.version, epochs=EPOCHS).model_dump_json(by_alias=True)
    training = start_training(tmp_path / "first", there.training(request))
    try:
        while not holding:
            assert training.poll() is None, (tmp_path / "first" / "log").read_text()
            time.sleep(0.05)
    finally:
        os.killpg(training.pid, signal.SIGKILL)
        training.wait(60)
    (saved,) = read(object_storage, bucket, "workspaces/training/history.json")

    for step in (train, evaluate, export, export):  # on another disk, see the fixture scratch
        step(*there.training(request))
    history = read(object_storage, bucket, "workspaces/training/history.json")
    assert [row["number"] for row in history] == [1, 2, 3]
    assert history[0] == saved, "the first epoch was not trained again"

    result = TrainingResult.model_validate(read(object_storage, bucket, "reports/training/result.json"))
    assert result.epochs == EPOCHS
    assert result.cost is not None
    assert "attempt 1, which ended without a word" in result.cost.missing[0]
    assert result.model.uri == f"s3://{bucket}/a/tenant/models/{result.model.manifest_sha256}"
    local = make_request(architecture, alike.uri, alike.version, epochs=EPOCHS)
    for step in (train, evaluate, export):
        step(*here.training(local.model_dump_json(by_alias=True)))
    require_alike(result, Path(here.at("reports/training/result.json")), object_storage, bucket)
    assert left_in(scratch) == {"blobs"}, "only what the next step can use again stays on the disk"
    assert not [key for key in object_storage.keys(bucket) if "view" in key or key.endswith(".partial")]


def test_models_without_one_group_each_are_trained_on_one_machine_and_measured_on_another(
    source: Callable[[bool], Path],
    upload: Callable[[Path], None],
    bucket: str,
    object_storage: ObjectStorage,
    scratch: Path,
) -> None:
    upload(source(False))
    site = Site(f"s3://{bucket}/a/tenant")
    capture = {"capture": {"from": "Folder", "pattern": "{*}/{site}/{*}"}}
    request = json.dumps(PREPARATION | capture | {"task": "Classification"})
    prepare(request, site.at("data"), site.at("datasets/uid"), site.at("reports/preparation"))
    prepared = PreparationResult.model_validate(read(object_storage, bucket, "reports/preparation/result.json"))
    asked = {"epochs": 1, "imageSize": 32, "evaluation": {"leaveOneOut": "site", "slices": ["site"]}}
    training = make_request("mobilenet_v3_small", prepared.uri, prepared.version, **asked)
    for step in (train, evaluate):
        step(*site.training(training.model_dump_json(by_alias=True)))
        shutil.rmtree(scratch / "pelagos")

    metrics = read(object_storage, bucket, "workspaces/training/evaluation.json")["metrics"]
    for number, value in enumerate(("disc", "square")):
        kept = read(object_storage, bucket, f"workspaces/training/groups/{number}/evaluation.json")
        assert metrics[f"leave-one-out/site/{value}/accuracy"] == kept["metrics"]["test/accuracy"]
        assert f"slice/site/{value}/accuracy" in metrics


def test_what_is_left_on_object_storage_is_in_the_list_of_what_is_excluded(
    source: Callable[[bool], Path], upload: Callable[[Path], None], bucket: str, object_storage: ObjectStorage
) -> None:
    upload(source(False))
    object_storage.put(bucket, "a/tenant/data/samples/shapes/notes", "")
    Site(f"s3://{bucket}/a/tenant").prepare(False)
    prepared = read(object_storage, bucket, "reports/preparation/result.json")
    key = f"{prepared['uri'].removeprefix(f's3://{bucket}/')}/excluded.jsonl"
    lines = [json.loads(line) for line in object_storage.get(bucket, key).splitlines()]
    assert {line["path"]: line["reason"] for line in lines} == {
        ".DS_Store": "Hidden",
        "__MACOSX/train/disc/x.png": "Hidden",
        "notes": "NotAnImage",
        "train/disc/.hidden.png": "Hidden",
    }
    assert prepared["files"] == {"found": 16, "images": 12, "annotations": 0, "excluded": 4, "tiles": None}


def test_versions_of_before_have_no_list_and_are_brought_as_they_are(
    bucket: str, object_storage: ObjectStorage, tmp_path: Path
) -> None:
    version = dataset_versions.write(tmp_path / "store", dataset_versions.detection(tmp_path / "source"))
    folder = dataset_versions.before_exclusions(version)
    for file in (tmp_path / "store").rglob("*"):
        if file.is_file():
            object_storage.put(bucket, f"a/{file.relative_to(tmp_path / 'store').as_posix()}", file.read_bytes())
    brought = published.download(f"s3://{bucket}/a/versions/{folder.name}", tmp_path / "scratch", SPLITS)
    assert versions.read(brought).collection == version.collection
    object_storage.remove(bucket, f"a/versions/{folder.name}/annotations.json")
    with pytest.raises(RefusedError, match=r"annotations\.json is not there"):
        published.download(f"s3://{bucket}/a/versions/{folder.name}", tmp_path / "again", SPLITS)


def test_preparing_again_sends_what_is_new_alone(
    source: Callable[[bool], Path], upload: Callable[[Path], None], bucket: str, proxy: Proxy
) -> None:
    folder = source(False)
    upload(folder)
    site = Site(f"s3://{bucket}/a/tenant")
    site.prepare(False)
    assert proxy.count("PUT", "/blobs/") == 12
    manifest = next(path for method, path in proxy.seen if method == "PUT" and path.endswith("manifest.json"))
    written = [path for method, path in proxy.seen if method == "PUT" and ".lease" not in path]
    assert written.index(manifest) > max(written.index(path) for path in written if "/blobs/" in path)
    assert written[-1].endswith("reports/preparation/result.json")

    before = len(proxy.seen)
    site.prepare(False)
    assert not [path for method, path in proxy.seen[before:] if method == "PUT"], "the result is there: nothing to do"
    assert not [path for method, path in proxy.seen[before:] if "/data/" in path]

    new = next((folder / "train").rglob("*.png"))
    new.write_bytes(new.read_bytes() + b"\0")
    upload(folder)
    request = PREPARATION | {"task": "Classification"}
    parameters = (site.at("data"), site.at("datasets/uid"), site.at("reports/second"))
    prepare(json.dumps(request), *parameters)
    assert proxy.count("PUT", "/blobs/") == 13


def test_images_in_other_encodings_are_sent_once_as_png(
    source: Callable[[bool], Path],
    upload: Callable[[Path], None],
    bucket: str,
    object_storage: ObjectStorage,
    proxy: Proxy,
    tmp_path: Path,
) -> None:
    folder = source(False)
    for file in sorted((folder / "train").rglob("*.png")):
        with Image.open(file) as image:
            image.save(file.with_suffix(".tif"), compression="tiff_lzw")
        file.unlink()
    upload(folder)
    site = Site(f"s3://{bucket}/a/tenant")
    site.prepare(False)
    first = read(object_storage, bucket, "reports/preparation/result.json")
    assert proxy.count("PUT", "/blobs/") == 12

    request = json.dumps(PREPARATION | {"task": "Classification"})
    prepare(request, site.at("data"), site.at("datasets/uid"), site.at("reports/second"))

    assert read(object_storage, bucket, "reports/second/result.json")["version"] == first["version"]
    assert proxy.count("PUT", "/blobs/") == 12
    version = versions.read(published.download(first["uri"], tmp_path / "brought", SPLITS))
    assert {file.read_bytes()[1:4] for file in version.blobs.values()} == {b"PNG"}


def test_a_damaged_blob_is_refused_by_training_and_healed_by_preparing_again(
    source: Callable[[bool], Path],
    upload: Callable[[Path], None],
    bucket: str,
    object_storage: ObjectStorage,
    tmp_path: Path,
) -> None:
    upload(source(False))
    site = Site(f"s3://{bucket}/a/tenant")
    site.prepare(False)
    prepared = read(object_storage, bucket, "reports/preparation/result.json")
    blobs = object_storage.keys(bucket, "a/tenant/datasets/uid/blobs/")
    intact = {blob: object_storage.get(bucket, blob) for blob in blobs}
    for blob, content in intact.items():
        object_storage.put(bucket, blob, bytes([content[0] ^ 1]) + content[1:])
        break
    with pytest.raises(RefusedError, match="an image is damaged") as caught:
        published.download(prepared["uri"], tmp_path / "scratch", SPLITS)
    assert caught.value.failure.reason is Reason.DATASET_NOT_READABLE
    assert prepared["uri"] in caught.value.failure.message
    request = json.dumps(PREPARATION | {"task": "Classification"})
    prepare(request, site.at("data"), site.at("datasets/uid"), site.at("reports/second"))
    assert {blob: object_storage.get(bucket, blob) for blob in blobs} == intact


def test_only_images_of_the_splits_are_brought_and_only_once(
    source: Callable[[bool], Path],
    upload: Callable[[Path], None],
    bucket: str,
    object_storage: ObjectStorage,
    proxy: Proxy,
    tmp_path: Path,
) -> None:
    upload(source(False))
    Site(f"s3://{bucket}/a/tenant").prepare(False)
    prepared = read(object_storage, bucket, "reports/preparation/result.json")
    from pelagos_pipelines.preparation import published, versions
    from pelagos_pipelines.preparation.judging import kept

    before = proxy.count("GET", "/blobs/")
    folder = published.download(prepared["uri"], tmp_path / "one", ("test",))
    assert proxy.count("GET", "/blobs/") - before == 3
    versions.verify(versions.read(folder))
    published.download(prepared["uri"], tmp_path / "two", ("test", "validation"))
    assert proxy.count("GET", "/blobs/") - before == 6

    brought, *figures = kept.find(prepared["uri"], tmp_path / "report")
    assert "Dataset report" in brought.read_text(encoding="utf-8")
    assert [figure.name for figure in figures][:2] == ["classes.png", "splits.png"]
    assert kept.find(f"{prepared['uri']}0", tmp_path / "report") == []
    (manifest,) = (
        key for key in object_storage.keys(bucket, "a/tenant/datasets/uid/") if key.endswith("manifest.json")
    )
    object_storage.remove(bucket, manifest)
    with pytest.raises(RefusedError, match=r"s3://.* is missing, incomplete or changed"):
        published.download(prepared["uri"], tmp_path / "three", ("test",))


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"data": "s3://no-such-bucket/data"}, Reason.STORAGE_REFUSED, "there is no such bucket"),
        ({"store": "s3://no-such-bucket/data"}, Reason.STORAGE_REFUSED, "there is no such bucket"),
        ({"path": "samples/absent"}, Reason.SOURCE_NOT_FOUND, "'samples/absent' is neither a folder nor an archive"),
        ({"path": "samples/../../.."}, Reason.SOURCE_NOT_FOUND, "is neither a folder nor an archive"),
        ({"key": "a/tenant/data/samples/shapes/train//x.png"}, Reason.STORAGE_REFUSED, "rename or remove it"),
        ({"key": f"a/tenant/data/samples/shapes/{'n' * 256}"}, Reason.FORMAT_INVALID, "no folder can hold"),
    ],
)
def test_what_a_person_must_correct_is_reported_beside_the_result(
    change: dict[str, str],
    reason: Reason,
    words: str,
    source: Callable[[bool], Path],
    upload: Callable[[Path], None],
    bucket: str,
    object_storage: ObjectStorage,
) -> None:
    upload(source(False))
    if key := change.get("key"):
        object_storage.put(bucket, key, "x")
    site = Site(f"s3://{bucket}/a/tenant")
    path = change.get("path", "samples/shapes")
    request = PREPARATION | {"task": "Classification", "source": {"volume": {"path": path}}}
    data, store = change.get("data", site.at("data")), change.get("store", site.at("datasets/uid"))
    with pytest.raises(RefusedError):
        prepare(json.dumps(request), data, store, site.at("reports/preparation"))
    failure = read(object_storage, bucket, "reports/preparation/failure.json")
    assert failure["reason"] == reason
    assert words in failure["message"]
    assert not [key for key in object_storage.keys(bucket) if key.endswith(("manifest.json", "result.json"))]


def test_a_full_disk_is_reported_although_nothing_can_be_written_here(
    source: Callable[[bool], Path],
    upload: Callable[[Path], None],
    bucket: str,
    object_storage: ObjectStorage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import shutil

    upload(source(False))
    real = shutil.disk_usage

    def full(path: object) -> Any:
        return real(str(path))._replace(free=100)

    monkeypatch.setattr(shutil, "disk_usage", full)
    site = Site(f"s3://{bucket}/a/tenant")
    with pytest.raises(RefusedError, match="no space is left"):
        site.prepare(False)
    failure = read(object_storage, bucket, "reports/preparation/failure.json")
    assert failure["reason"] == Reason.DISK_FULL
    monkeypatch.setattr(shutil, "disk_usage", real)
    site.prepare(False)
    assert "a/tenant/reports/preparation/failure.json" not in object_storage.keys(bucket)


def test_checkpoints_of_users_come_from_the_data_prefix(
    bucket: str, object_storage: ObjectStorage, tmp_path: Path
) -> None:
    from pelagos_contract.training import Weights
    from pelagos_pipelines.training import checkpoints

    object_storage.put(bucket, "data/weights/start.pt", b"tensors")
    root = f"s3://{bucket}/data"
    weights = Weights(path="weights/start.pt")
    folder = checkpoints.download(weights, root, tmp_path / "scratch")
    assert checkpoints.copy_checkpoint(weights, folder, tmp_path / "start.pt").read_bytes() == b"tensors"
    for path in ("weights/absent.pt", "../data/weights/start.pt", "/etc/passwd", "weights//start.pt"):
        wrong = Weights(path=path)
        with pytest.raises(RefusedError) as caught:
            checkpoints.copy_checkpoint(
                wrong, checkpoints.download(wrong, root, tmp_path / "other"), tmp_path / "wrong.pt"
            )
        assert caught.value.failure.reason is Reason.CHECKPOINT_INVALID


@pytest.mark.parametrize("on_storage", [False, True], ids=["folder", "object storage"])
def test_an_archive_gives_the_same_version_as_the_folder_that_was_packed(
    on_storage: bool,
    tmp_path: Path,
    object_storage: ObjectStorage,
    bucket: str,
    source: Callable[[bool], Path],
    scratch: Path,
) -> None:
    folder = source(True)
    site = Site(str(tmp_path / "folder"))
    site.prepare(detection=True)
    expected = PreparationResult.model_validate_json((tmp_path / "folder/reports/preparation/result.json").read_text())
    packed = shutil.make_archive(str(folder.with_name("packed")), "gztar", folder.parent, folder.name)
    data = site.at("data")
    if on_storage:
        data = f"s3://{bucket}/a/data"
        object_storage.put(bucket, "a/data/samples/packed.tar.gz", Path(packed).read_bytes())

    request = PREPARATION | {"source": {"volume": {"path": "samples/packed.tar.gz"}}, "task": "Detection"}
    prepare(json.dumps(request), data, str(tmp_path / "store"), str(tmp_path / "report"))

    result = PreparationResult.model_validate_json((tmp_path / "report/result.json").read_text())
    assert result.version == expected.version
    assert result.files == expected.files
    assert left_in(scratch) == set()
