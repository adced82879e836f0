"""A model package is served only if it is, byte for byte, what its description says; the refusal names what is not."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pelagos.engines import triton_local_package
from pelagos.ports.errors import RejectedError
from pelagos.ports.serving import ServiceWant

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def want(tmp_path: Path, make_want: Callable[..., ServiceWant]) -> ServiceWant:
    original = make_want()
    shutil.copytree(original.package_uri, tmp_path / "package")
    return ServiceWant(**{**vars(original), "package_uri": str(tmp_path / "package")})


def edit_description(package: Path, **changes: object) -> None:
    path = package / "package.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def add_file(package: Path, name: str) -> None:
    files = json.loads((package / "package.json").read_text())["files"]
    edit_description(package, files=files | {name: "0" * 64})


def replace_by_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "package.json cannot be read: No such file or directory. Was the package deleted?"),
        (lambda p: (p / "package.json").write_text("{"), "package.json is not JSON"),
        (lambda p: (p / "package.json").write_text("[]"), "does not hold a JSON object"),
        (lambda p: edit_description(p, files=["a"]), "'files' must map paths to sha256 digests"),
        (lambda p: edit_description(p, files={}), "does not list triton/1/model.onnx"),
        (lambda p: (p / "triton/1/model.onnx").unlink(), "triton/1/model.onnx is missing"),
        (lambda p: (p / "triton/1/predictor.py").unlink(), "triton/1/predictor.py is missing"),
        (lambda p: (p / "triton/1/model.onnx").write_bytes(b"x"), "triton/1/model.onnx has been altered: sha256 2d711642"),
        (lambda p: (p / "triton/1/model.py").write_text("x"), "triton/1/model.py has been altered"),
        (lambda p: (p / "probe.json").write_text("{}"), "probe.json has been altered"),
        (lambda p: add_file(p, "../outside"), "../outside is missing, or is not a file of the package"),
        (lambda p: add_file(p, "/etc/hostname"), "/etc/hostname is missing, or is not a file of the package"),
        (lambda p: replace_by_link(p / "probe.png"), "probe.png is missing, or is not a file of the package"),
    ],
)  # fmt: skip
def test_a_damaged_package_is_refused(
    want: ServiceWant, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(Path(want.package_uri))
    with pytest.raises(RejectedError, match=re.escape(message)):
        triton_local_package.prepare(want, tmp_path / "service")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"onnx_sha256": "abc"}, "the service asks for abc"),
        ({"model_name": "../x"}, "the model name '../x' is not allowed"),
        ({"package_uri": "s3://bucket/package"}, "the local server reads folders of this machine only"),
    ],
)
def test_a_want_that_does_not_fit_is_refused(
    want: ServiceWant, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(RejectedError, match=re.escape(message)):
        triton_local_package.prepare(ServiceWant(**{**vars(want), **changes}), tmp_path / "service")


def test_the_repository_holds_the_package_under_the_service_name(want: ServiceWant, tmp_path: Path) -> None:
    Path(want.package_uri, "triton/1/not-listed.py").write_text("x")
    served = install(want, tmp_path)
    model = served / "repository/detector"
    assert sorted(path.name for path in (model / "1").iterdir()) == [
        "model.json",
        "model.onnx",
        "model.py",
        "predictor.py",
    ]
    assert 'name: "detector"' in (model / "config.pbtxt").read_text()
    graph = Path(want.package_uri, "triton/1/model.onnx")
    assert (model / "1/model.onnx").stat().st_ino == graph.stat().st_ino, "the graph is on the disk once"


def test_where_there_are_no_hard_links_files_are_copied(
    want: ServiceWant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    served = install(want, tmp_path)
    graph = Path(want.package_uri, "triton/1/model.onnx")
    assert (served / "repository/detector/1/model.onnx").read_bytes() == graph.read_bytes()


def test_a_file_uri_is_a_folder(want: ServiceWant, tmp_path: Path) -> None:
    target = tmp_path / "with space"
    Path(want.package_uri).rename(target)
    served = install(ServiceWant(**{**vars(want), "package_uri": target.as_uri()}), tmp_path)

    assert (served / "repository/detector/1/model.onnx").is_file()


def test_what_is_served_is_used_again_until_it_is_altered(want: ServiceWant, tmp_path: Path) -> None:
    served = install(want, tmp_path)
    assert triton_local_package.is_usable(served, want)
    assert not triton_local_package.is_usable(served, ServiceWant(**{**vars(want), "digest": "other"}))
    Path(want.package_uri, "triton/1/model.onnx").write_bytes(b"altered in the store, which shares the file")
    assert not triton_local_package.is_usable(served, want)


def test_an_interrupted_preparation_does_no_harm(want: ServiceWant, tmp_path: Path) -> None:
    triton_local_package.prepare(want, tmp_path / "service")
    assert triton_local_package.recorded(tmp_path / "service/served") is None
    assert triton_local_package.is_usable(install(want, tmp_path), want)


def install(want: ServiceWant, tmp_path: Path) -> Path:
    served = tmp_path / "service/served"
    triton_local_package.install(triton_local_package.prepare(want, tmp_path / "service"), served)
    return served
