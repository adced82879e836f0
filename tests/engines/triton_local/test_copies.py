"""A package is data, served only if it equals byte for byte what Kubernetes pins; the refusal names what does not."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from model_packages import altered
from pelagos.engines.triton_local import copies
from pelagos.ports.errors import RejectedError
from pelagos.ports.serving import DesiredService

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def want(tmp_path: Path, make_want: Callable[..., DesiredService]) -> DesiredService:
    original = make_want()
    shutil.copytree(original.package_uri, tmp_path / "package")
    return replace(original, package_uri=str(tmp_path / "package"))


def edit_description(package: Path, **changes: object) -> None:
    path = package / "package.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replace_by_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(3 << 30)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "package.json cannot be read: No such file or directory. Was the package deleted?"),
        (lambda p: (p / "package.json").write_text("{"), "package.json has been altered, or belongs to another package: sha256 "),
        (lambda p: edit_description(p, labels=["a", "b", "c"]), "package.json has been altered, or belongs to another package"),
        (lambda p: (p / "model.onnx").unlink(), "model.onnx cannot be read: No such file or directory"),
        (lambda p: (p / "model.onnx").write_bytes(b"x"), "model.onnx has been altered: sha256 2d711642"),
        (lambda p: (p / "probe.json").write_text("{}"), "probe.json has been altered"),
        (lambda p: replace_by_link(p / "probe.png"), "probe.png cannot be read: Too many levels of symbolic links"),
        (lambda p: replace_by_link(p / "package.json"), "package.json cannot be read: Too many levels of symbolic links"),
        (lambda p: replace_by_pipe(p / "model.onnx"), "model.onnx is not a plain file"),
        (lambda p: replace_by_pipe(p / "package.json"), "package.json is not a plain file"),
        (lambda p: grow(p / "model.onnx"), "model.onnx is larger than the 2147483647 bytes that model.onnx of a package"),
        (lambda p: grow(p / "package.json"), "package.json is larger than the 4194304 bytes"),
    ],
)  # fmt: skip
def test_a_damaged_package_is_refused(
    want: DesiredService, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(Path(want.package_uri))
    with pytest.raises(RejectedError, match=re.escape(message)):
        copies.prepare(want, tmp_path / "service")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"onnx_sha256": "abc"}, "the service asks for abc"),
        ({"manifest_sha256": ""}, "it is not known which package at"),
        ({"manifest_sha256": "0" * 64}, f"instead of {'0' * 64}; train or export the model again"),
        ({"model_name": "../x"}, "the model name '../x' is not allowed"),
        ({"package_uri": "s3://bucket/package"}, "the local server reads folders of this machine only"),
    ],
)
def test_a_want_that_does_not_fit_is_refused(
    want: DesiredService, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RejectedError, match=re.escape(message)):
        copies.prepare(replace(want, **changes), tmp_path / "service")


def test_an_edited_package_that_attests_itself_is_another_one(want: DesiredService, tmp_path: Path) -> None:
    folder = tmp_path / "edited"
    altered(Path(want.package_uri), folder, {"probe.json": b"{}"})
    with pytest.raises(RejectedError, match=f"instead of {want.manifest_sha256}"):
        copies.prepare(replace(want, package_uri=str(folder)), tmp_path / "service")


def test_a_package_that_brings_code_or_configuration_serves_none_of_it(want: DesiredService, tmp_path: Path) -> None:
    package = Path(want.package_uri)
    for name in ("model.py", "predictor.py", "triton/1/model.py", "triton/config.json", "config.pbtxt", "code.json"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("raise SystemExit('a stranger was here')")
    served = install(want, tmp_path)
    model = served / "repository/detector"
    data = Path(__file__).parents[3] / "pipelines/pelagos_pipelines"
    listed = json.loads((data / "serving/code.json").read_text())
    assert {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()} == {
        "config.pbtxt",
        "1/model.py",
        "1/model.onnx",
        "1/package.json",
        *(f"1/{name}" for name in listed["modules"]),
    }
    assert (model / "1/model.py").read_bytes() == (data / "serving/model.py").read_bytes()
    assert 'backend: "python"' in (model / "config.pbtxt").read_text()
    assert "a stranger was here" not in "".join(
        path.read_text(errors="replace") for path in model.rglob("*") if path.is_file()
    )


def test_a_package_of_an_earlier_version_is_refused_with_the_next_step(want: DesiredService, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    manifest, _ = altered(Path(want.package_uri), folder, {}, schemaVersion=1)
    with pytest.raises(RejectedError, match="older ones contain code; train or export the model again"):
        copies.prepare(replace(want, package_uri=str(folder), manifest_sha256=manifest), tmp_path / "service")


def test_what_is_served_shares_no_file_with_the_store(want: DesiredService, tmp_path: Path) -> None:
    served = install(want, tmp_path)
    package = Path(want.package_uri)
    theirs = {path.stat().st_ino for path in package.rglob("*")}
    ours = {path.stat().st_ino for path in served.rglob("*")}
    assert not theirs & ours
    (package / "model.onnx").write_bytes(b"altered in the store")
    assert copies.is_usable(served, want)


def test_what_is_served_is_made_again_from_its_own_copy_when_the_store_has_lost_it(
    want: DesiredService, tmp_path: Path
) -> None:
    served = install(want, tmp_path)
    shutil.rmtree(want.package_uri)
    other = replace(want, confidence="0.5", digest="other")
    assert not copies.is_usable(served, other)
    assert copies.is_usable(install(other, tmp_path), other)


def test_a_file_uri_is_a_folder(want: DesiredService, tmp_path: Path) -> None:
    target = tmp_path / "with space"
    Path(want.package_uri).rename(target)
    served = install(replace(want, package_uri=target.as_uri()), tmp_path)

    assert (served / "repository/detector/1/model.onnx").is_file()


@pytest.mark.parametrize(
    "damage",
    [
        lambda served: (served / "package/model.onnx").write_bytes(b"x"),
        lambda served: edit_description(served / "package", labels=["a", "b", "c"]),
        lambda served: (served / "package/probe.json").write_text("{}"),
        lambda served: (served / "repository/detector/1/model.py").write_text("import os"),
        lambda served: (served / "repository/detector/1/pelagos_pipelines/serving/predictor.py").write_text("import os"),
        lambda served: (served / "repository/detector/config.pbtxt").write_text('backend: "python"'),
        lambda served: (served / "repository/detector/1/sitecustomize.py").write_text("import os"),
        lambda served: (served / "repository/other/1").mkdir(parents=True),
        lambda served: replace_by_link(served / "repository/detector/1/model.onnx"),
        lambda served: shutil.rmtree(served / "repository"),
    ],
)  # fmt: skip
def test_what_is_served_is_used_again_until_it_is_altered(
    want: DesiredService, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    served = install(want, tmp_path)
    assert copies.is_usable(served, want)
    assert not copies.is_usable(served, replace(want, digest="other"))
    damage(served)
    assert not copies.is_usable(served, want)
    assert copies.is_usable(install(want, tmp_path), want), "and it is made anew from the store"


def test_a_copy_that_was_altered_is_never_made_again_from_an_altered_store(
    want: DesiredService, tmp_path: Path
) -> None:
    served = install(want, tmp_path)
    for package in (served / "package", Path(want.package_uri)):
        edit_description(package, labels=["a", "b", "c"])
    with pytest.raises(RejectedError, match="has been altered, or belongs to another package"):
        copies.prepare(want, tmp_path / "service")


def test_an_interrupted_preparation_does_no_harm(want: DesiredService, tmp_path: Path) -> None:
    copies.prepare(want, tmp_path / "service")
    assert copies.recorded(tmp_path / "service/served") is None
    assert copies.is_usable(install(want, tmp_path), want)


def install(want: DesiredService, tmp_path: Path) -> Path:
    served = tmp_path / "service/served"
    copies.install(copies.prepare(want, tmp_path / "service"), served)
    return served
