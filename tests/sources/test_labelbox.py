"""A project of Labelbox is exported in parts, with its images and masks; the key goes to the API alone."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from fetched_sources import Step, allow, image
from labelbox_server import KEY, Labelbox
from pelagos_contract.annotation_tools import LabelboxSource
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.remote_sources import SECRET_CONTENT, Origin
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.sources import labelbox
from pelagos_pipelines.sources.place import Errand
from web_servers import Fault, Server, serving


@pytest.fixture
def service() -> Labelbox:
    return Labelbox({f"{number}.png": image(number) for number in range(8)})


@pytest.fixture
def server(service: Labelbox) -> Iterator[Server]:
    with serving(service) as server:
        service.name = server.url
        yield server


@contextmanager
def errand(server: Server, folder: Path, key: str = KEY) -> Iterator[Errand]:
    with server.client("source.labelbox") as client:
        yield Errand(client, folder, {"token": key})


def fetched(server: Server, folder: Path, project: str = "reef1") -> tuple[SourceFiles, Origin]:
    asked = LabelboxSource(url=server.url, project=project)
    with errand(server, folder) as how:
        return labelbox.fetch(asked, how, labelbox.look(asked, how))


def test_a_version_is_made_of_it(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(server, monkeypatch, tmp_path)
    monkeypatch.setenv(SECRET_CONTENT, json.dumps({"token": KEY}))
    asked = {"url": server.url, "project": "reef1", "secretRef": {"name": "labels"}}
    step = Step(server, tmp_path, "labelbox", asked, {"task": "Detection"})
    result = step.run()
    assert (result.images, {each.name: each.annotations for each in result.classes}) == (8, {"crab": 4, "fish": 4})
    assert step.run(retry="again") == result
    assert server.count("GET", "/storage/images") == 8
    assert KEY not in (tmp_path / "report" / "result.json").read_text()


def test_rows_of_one_name_are_told_apart(server: Server, tmp_path: Path) -> None:
    tree, origin = fetched(server, tmp_path)
    assert tree.images == (
        "images/dive-row1.png",
        *(f"images/dive-row{number}.png" for number in range(2, 8)),
        "images/dive.png",
    )
    assert (origin.version, tree.excluded, tree.warnings) == ("project reef1 (reef)", (), ())


def test_masks_are_asked_with_the_key(server: Server, service: Labelbox, tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.new("L", (40, 30), 255).save(content, "PNG")
    service.masks = {"3.png": content.getvalue()}
    tree, _ = fetched(server, tmp_path)
    assert tree.read("masks/feature3.png", 10**6) == content.getvalue()


def test_a_look_sees_activity_and_exports_nothing(server: Server, service: Labelbox, tmp_path: Path) -> None:
    asked = LabelboxSource(url=server.url, project="reef1")
    with errand(server, tmp_path) as how:
        first = labelbox.look(asked, how)
        assert labelbox.look(asked, how) == first
        service.active = "2026-11-02T10:00:00.000Z"
        assert labelbox.look(asked, how).state not in {first.state, None}
    assert not any(b"exportDataRows" in each.body for each in server.seen)


def test_what_cannot_be_had_is_said(server: Server, service: Labelbox, tmp_path: Path) -> None:
    service.lost, service.rows_told = {"3.png"}, 9
    tree, _ = fetched(server, tmp_path)
    assert len(tree.images) == 7
    assert [each.path.partition(": ")[0] for each in tree.excluded] == ["data row row3"]
    assert "1 since its server answers with HTTP 404 (with 1 annotations)" in tree.warnings[0]
    assert tree.warnings[1] == "Labelbox has 9 data rows in the project, and exported 8"


@pytest.mark.parametrize("fault", [Fault("answer", status=429, retry_after="0"), Fault("answer", status=500)])
def test_a_server_in_trouble_is_asked_again(server: Server, tmp_path: Path, fault: Fault) -> None:
    server.fail(fault, times=2, part="/graphql")
    server.fail(fault, times=2, part="/storage")
    assert len(fetched(server, tmp_path)[0].images) == 8


def test_an_export_that_fails_says_why(server: Server, service: Labelbox, tmp_path: Path) -> None:
    service.fails = "no space"
    with pytest.raises(RefusedError) as caught:
        fetched(server, tmp_path)
    assert "could not export project reef1: no space" in caught.value.failure.message


def test_what_is_not_there_and_who_may_not_ask_is_said(server: Server, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        fetched(server, tmp_path, "reef2")
    assert caught.value.failure.reason is Reason.SOURCE_NOT_FOUND
    with errand(server, tmp_path, "wrong-key") as how, pytest.raises(RefusedError) as caught:
        labelbox.look(LabelboxSource(url=server.url, project="reef1"), how)
    assert caught.value.failure.reason is Reason.SOURCE_ACCESS_DENIED
    assert "wrong-key" not in caught.value.failure.message
