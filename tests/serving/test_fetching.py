"""The init container of a model server: a package arrives whole and verified, or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import build_packages
from pelagos_pipelines.serving import fetch
from pelagos_pipelines.serving.packages import RefusedError


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(
        build_packages.build("Classification", build_packages.classifier(), tmp_path_factory.mktemp("store"))[0]
    )


@pytest.fixture
def variables(package: Path, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "models").mkdir()
    return {
        "PELAGOS_PACKAGE_URI": str(package),
        "PELAGOS_PACKAGE": str(tmp_path / "models"),
        "PELAGOS_MANIFEST_SHA256": package.name,
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_package_arrives_as_it_is(package: Path, variables: dict[str, str], tmp_path: Path) -> None:
    fetch.fetch(variables)
    assert contents(tmp_path / "models") == contents(package)


def test_what_is_there_already_is_not_fetched_again(variables: dict[str, str], tmp_path: Path) -> None:
    fetch.fetch(variables)
    before = {path: path.stat().st_ino for path in (tmp_path / "models").rglob("*")}
    fetch.fetch(variables | {"PELAGOS_PACKAGE_URI": "/nowhere"})
    assert {path: path.stat().st_ino for path in (tmp_path / "models").rglob("*")} == before


def test_what_a_fetch_left_that_was_cut_short_is_replaced(
    package: Path, variables: dict[str, str], tmp_path: Path
) -> None:
    models = tmp_path / "models"
    (models / ".partial/triton").mkdir(parents=True)
    (models / "probe.json").write_text("{")
    (models / "link").symlink_to("/etc")
    fetch.fetch(variables)
    assert contents(models) == contents(package)


def test_an_altered_package_never_arrives(package: Path, variables: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "altered"
    shutil.copytree(package, folder)
    (folder / "model.onnx").write_bytes(b"x")
    with pytest.raises(RefusedError, match=r"model\.onnx has been altered"):
        fetch.fetch(variables | {"PELAGOS_PACKAGE_URI": str(folder)})
    assert not (tmp_path / "models/package.json").exists()


def test_what_a_package_does_not_list_stays_behind(package: Path, variables: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "more"
    shutil.copytree(package, folder)
    (folder / "huge.bin").write_bytes(b"x")
    fetch.fetch(variables | {"PELAGOS_PACKAGE_URI": str(folder)})
    assert contents(tmp_path / "models") == contents(package)


def test_a_package_that_is_missing_ends_the_container_with_one_line(variables: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pelagos_pipelines.serving.fetch"],
        env=os.environ | variables | {"PELAGOS_PACKAGE_URI": str(tmp_path / "gone")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == os.EX_DATAERR
    missing = f"{tmp_path}/gone/package.json is missing: there is no model package"
    assert done.stderr == f"pelagos: {missing}. Was it deleted, or is the volume empty?\n"


def test_a_relative_path_is_refused(variables: dict[str, str]) -> None:
    with pytest.raises(RefusedError, match=r"must be an absolute path or begin with s3://"):
        fetch.fetch(variables | {"PELAGOS_PACKAGE_URI": "packages/1"})
