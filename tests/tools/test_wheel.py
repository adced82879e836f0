"""The wheel works by itself: nothing that is installed looks for the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of all tracked files, as a release is."""
    folder = tmp_path_factory.mktemp("built")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    wanted = [
        name
        for name in listed.split("\0")
        if name.startswith(("operator/", "pipelines/", "gateway/", "hub/")) or "/" not in name
    ]
    for name in filter(None, wanted):
        if (ROOT / name).is_file():
            target = folder / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=folder / "source", check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of the wheel in an empty folder."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(folder)
    return folder


def run(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the wheel, with the dependencies of this environment, and without its link to the repository."""
    libraries = sysconfig.get_path("purelib")
    code = f"import sys; sys.path[:0] = [{str(installed)!r}, {libraries!r}]; from pelagos.cli.main import app; app()"
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PELAGOS_HOME": str(folder / "home")}
    return subprocess.run(
        [sys.executable, "-S", "-c", code, *arguments],  # -S: no .pth file is read
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_no_generator_and_no_test_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        packages = {name.split("/")[0] for name in content.namelist()}
    assert {name for name in packages if not name.endswith(".dist-info")} == {
        "pelagos",
        "pelagos_contract",
        "pelagos_gateway",
        "pelagos_hub",
        "pelagos_pipelines",
    }


def test_each_package_says_that_it_has_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        files = content.namelist()
    packages = {name.split("/")[0] for name in files if name.endswith("/__init__.py")}
    assert [package for package in packages if f"{package}/py.typed" not in files] == []


def test_what_the_control_plane_is_built_from_is_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    upstream = installed / "pelagos/embedded/upstream"
    for component, program in (("kubernetes", "kube-apiserver"), ("etcd", "etcd")):
        command = ["bash", str(upstream / "build.sh"), "--plan", str(upstream / component), program]
        environment = {"PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(tmp_path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert int(done.stdout) > 0
        assert (upstream / component / "go.sum").stat().st_size > 0
    assert "--hash=sha256:" in (upstream / "go.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--help"], 0, "doctor"),
        (["operator", "--help"], 0, "Usage"),
        (["demo", "--help"], 0, "--samples"),
        (["doctor"], 1, "pelagos up"),
        (["up"], 1, "make install"),
    ],
    ids=["help", "operator", "demo", "doctor", "up"],
)
def test_commands_work_from_an_empty_folder(
    installed: Path, tmp_path: Path, arguments: list[str], code: int, told: str
) -> None:
    done = run(installed, tmp_path, *arguments)

    assert done.returncode == code, done.stderr
    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_needed_at_run_time_is_there(installed: Path, tmp_path: Path) -> None:
    script = (
        "from pelagos.cli import demo; from pelagos.embedded import cluster; import pelagos;"
        "print(pelagos.__file__, len(cluster.definitions()), sorted(file.name for file in demo.SAMPLES.iterdir()))"
    )
    libraries = sysconfig.get_path("purelib")
    code = f"import sys; sys.path[:0] = [{str(installed)!r}, {libraries!r}]; {script}"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(installed))
    assert done.stdout.split(" ", 1)[1] == "4 ['dataset.yaml', 'modelservice.yaml', 'trainingrun.yaml']\n"


def test_the_pages_of_the_hub_are_in_the_wheel(installed: Path) -> None:
    assert (installed / "pelagos_hub/templates/base.html").is_file()
    assert (installed / "pelagos_hub/static/hub.css").is_file()
