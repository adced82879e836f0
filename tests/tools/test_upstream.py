"""Programs of other projects are built from their Go modules once, completely or not at all; errors are reported."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGED = ROOT / "operator/pelagos/embedded/upstream"
SCRIPT = PACKAGED / "build.sh"
MODULES = {
    file.parent.name: file.parent
    for parent in (PACKAGED, ROOT / "tools/upstream")
    for file in parent.glob("*/tools.go")
}
needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="builds with Go, which is missing here")
HELLO = """package main

import "example.org/hello/version"

func main() { println(version.Git) }
"""


@dataclass
class Builder:
    """The script with its own cache; Go's cache of compiled packages is the user's."""

    cache: Path
    environment: dict[str, str]

    def start(self, *arguments: str | Path, **more: str) -> subprocess.Popen[str]:
        command = ["bash", str(SCRIPT), *map(str, arguments)]
        environment = self.environment | more
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def __call__(self, *arguments: str | Path, code: int = 0, **more: str) -> tuple[str, str]:
        process = self.start(*arguments, **more)
        out, errors = process.communicate(timeout=120)
        assert process.returncode == code, out + errors
        return out, errors


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    told = {} if shutil.which("go") is None else {
        name: subprocess.run(["go", "env", name], check=True, capture_output=True, text=True).stdout.strip()
        for name in ("GOCACHE", "GOMODCACHE")
    }  # fmt: skip
    return Builder(
        tmp_path / "cache/pelagos/upstream", {**os.environ, **told, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    )


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """A component of one program, whose source is here."""
    folder = tmp_path / "hello"
    (folder / "source/version").mkdir(parents=True)
    (folder / "source/go.mod").write_text("module example.org/hello\n\ngo 1.24\n")
    (folder / "source/main.go").write_text(HELLO)
    (folder / "source/version/version.go").write_text('package version\n\nvar Git = "unknown"\n')
    (folder / "go.mod").write_text(
        "module test\n\ngo 1.24\n\nrequire example.org/hello v1.2.3\n\nreplace example.org/hello => ./source\n"
    )
    (folder / "tools.go").write_text(
        "//go:build tools\n\n// version strings: example.org/hello/version\npackage tools\n\n"
        'import (\n\t_ "example.org/hello" // hello 30\n)\n'
    )
    source = folder / "source/version/version.go"
    source.write_text(source.read_text().replace("Git =", "gitVersion =") + "\nvar Git = gitVersion\n")
    return folder


@needs_go
def test_a_program_lies_in_the_cache_by_component_and_version_and_knows_its_version(
    builder: Builder, hello: Path
) -> None:
    where = Path(builder("--where", hello)[0].strip())
    assert where == builder.cache / "hello/1.2.3"
    assert builder("--plan", hello, "hello")[0] == "30\n"

    told, _ = builder(hello, "hello")

    assert all(line.startswith(":: ") for line in told.splitlines())
    assert "building hello (hello 1.2.3)" in told
    assert " packages are to be compiled; about 1 min on " in told
    done = subprocess.run([where / "hello"], capture_output=True, text=True, check=True)
    assert done.stderr == "v1.2.3\n"
    assert builder("--plan", hello, "hello")[0] == "0\n"


@needs_go
def test_nothing_happens_a_second_time_even_without_go(builder: Builder, hello: Path, tmp_path: Path) -> None:
    builder(hello, "hello")
    for name in ("bash", "dirname", "basename", "sed", "head"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))

    assert builder(hello, "hello", PATH=str(tmp_path)) == ("", "")


@needs_go
def test_builds_at_the_same_time_compile_once(builder: Builder, hello: Path) -> None:
    running = [builder.start(hello, "hello") for _ in range(3)]
    told = [process.communicate(timeout=120)[0] for process in running]

    assert [process.returncode for process in running] == [0, 0, 0]
    assert sum("compiling hello" in each for each in told) == 1


@needs_go
def test_what_does_not_compile_leaves_no_program(builder: Builder, hello: Path) -> None:
    (hello / "source/main.go").write_text("package main\n\nfunc main() { missing() }\n")

    _, errors = builder(hello, "hello", code=1)

    assert "undefined: missing" in errors
    assert errors.endswith("hello of hello 1.2.3 could not be built\n")
    assert [file.name for file in (builder.cache / "hello/1.2.3").iterdir()] == [".lock"]


@needs_go
def test_what_a_killed_build_left_goes_with_the_next(builder: Builder, hello: Path) -> None:
    folder = builder.cache / "hello/1.2.3"
    folder.mkdir(parents=True)
    (folder / ".hello.part").write_text("half")

    builder(hello, "hello")

    assert {file.name for file in folder.iterdir()} == {".lock", "hello"}


@needs_go
def test_a_full_disk_is_said_before_the_build(builder: Builder, hello: Path, tmp_path: Path) -> None:
    df = tmp_path / "bin/df"
    df.parent.mkdir()
    df.write_text("#!/bin/sh\necho Avail\necho 12345\n")
    df.chmod(0o755)
    cold = {"GOCACHE": str(tmp_path / "go-build"), "PATH": f"{df.parent}:{os.environ['PATH']}"}

    _, errors = builder(hello, "hello", code=1, **cold)

    assert re.search(
        r"packages of hello 1\.2\.3 take about \d+ MB in Go's cache .*; 12 MB are free\. Free some", errors
    )


def test_wrong_use_names_what_can_be_built(builder: Builder) -> None:
    assert "kube-apiserver" in builder(MODULES["kubernetes"], "kubeadm", code=2)[1]
    assert "etcd" in builder(MODULES["etcd"], code=2)[1]
    assert "usage" in builder(PACKAGED, "etcd", code=2)[1]


@needs_go
def test_modules_out_of_reach_are_said_so(builder: Builder, tmp_path: Path) -> None:
    nowhere = {"GOMODCACHE": str(tmp_path / "modules"), "GOPROXY": "http://127.0.0.1:9"}

    _, errors = builder(MODULES["etcd"], "etcd", code=4, **nowhere)

    assert errors.startswith(
        "the Go modules of etcd 3.7.3 are out of reach: the module proxy (GOPROXY=http://127.0.0.1:9)"
    )
    assert "connection refused" in errors


def test_without_go_it_is_said_what_is_missing(builder: Builder, tmp_path: Path) -> None:
    for name in ("bash", "dirname", "basename", "sed", "head", "mkdir", "flock", "rm", "sort"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))

    told, errors = builder(
        MODULES["etcd"], "etcd", code=3, PATH=str(tmp_path), UV="", PELAGOS_ENVIRONMENTS="", PYTHON=""
    )

    assert "getting the Go compiler from PyPI" in told
    assert "Go 1.26.0 or later is missing" in errors
    assert "Install Go" in errors


@pytest.mark.parametrize("component", MODULES)
def test_every_module_names_its_programs_and_pins_all(builder: Builder, component: str) -> None:
    folder = MODULES[component]
    imports = [line for line in (folder / "tools.go").read_text().splitlines() if line.startswith("\t_ ")]
    names = [line.rpartition("// ")[2].split()[0] for line in imports]

    assert int(builder("--plan", folder, *names)[0]) > 0
    assert (folder / "go.sum").stat().st_size > 0
    assert "latest" not in (folder / "go.mod").read_text()
