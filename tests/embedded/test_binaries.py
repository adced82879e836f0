"""etcd and kube-apiserver are looked for in a fixed order, downloaded only as published, and installed once."""

from __future__ import annotations

import hashlib
import io
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pelagos.embedded import binaries, envtest
from pelagos.embedded.failures import StartError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no KUBEBUILDER_ASSETS."""
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "pelagos" / "control-plane"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address that serves it."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def make_programs(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("etcd", "kube-apiserver"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)


def make_archive(path: Path, *members: tarfile.TarInfo | str) -> str:
    """An archive like the official one; returns its SHA-512."""
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            content = b"" if isinstance(member, tarfile.TarInfo) else b"#!/bin/sh\n"
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return hashlib.sha512(path.read_bytes()).hexdigest()


def test_kubebuilder_assets_come_before_the_cache(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_programs(cache / binaries.DEBIAN)
    make_programs(tmp_path / "assets")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    assert binaries.require().etcd == tmp_path / "assets" / "etcd"


def test_wrong_kubebuilder_assets_are_refused_by_name(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_programs(cache / binaries.DEBIAN)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "nothing"))
    with pytest.raises(StartError, match=r"KUBEBUILDER_ASSETS is .*nothing"):
        binaries.find()


def test_the_archive_comes_before_the_build_in_the_cache(cache: Path) -> None:
    make_programs(cache / binaries.DEBIAN)
    assert binaries.require().kube_apiserver == cache / binaries.DEBIAN / "kube-apiserver"
    make_programs(cache / envtest.VERSION)
    assert binaries.require().kube_apiserver == cache / envtest.VERSION / "kube-apiserver"


def test_a_program_that_cannot_be_executed_does_not_count(cache: Path) -> None:
    make_programs(cache / binaries.DEBIAN)
    (cache / binaries.DEBIAN / "etcd").chmod(0o644)
    with pytest.raises(StartError, match="control-plane install"):
        binaries.require()


def test_without_debian_the_next_step_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envtest, "RELEASES", "http://127.0.0.1:9")
    monkeypatch.setattr(envtest, "_PATTERN", "http://127.0.0.1:9/{version}/{architecture}")
    monkeypatch.setenv("PATH", "/nonexistent")
    steps: list[str] = []
    with pytest.raises(StartError, match="set KUBEBUILDER_ASSETS"):
        binaries.install(steps.append)
    assert any("127.0.0.1:9 cannot be reached" in step for step in steps)


def test_a_download_is_verified_unpacked_and_executable(
    cache: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    names = ("controller-tools/envtest/etcd", "controller-tools/envtest/kube-apiserver", "controller-tools/README")
    checksum = make_archive(folder / "archive.tar.gz", *names)
    monkeypatch.setattr(envtest, "_PATTERN", f"{address}/archive.tar.gz")
    monkeypatch.setattr(envtest, "SHA512", dict.fromkeys(envtest.SHA512, checksum))
    found = binaries.install(lambda _: None)
    assert found.etcd == cache / envtest.VERSION / "etcd"
    assert {path.name for path in found.etcd.parent.iterdir()} == {"etcd", "kube-apiserver"}


def test_a_changed_download_is_never_unpacked(tmp_path: Path, served: tuple[Path, str]) -> None:
    folder, address = served
    make_archive(folder / "archive.tar.gz", "etcd")
    with pytest.raises(envtest.UnavailableError, match="not the published 0000"):
        envtest.download(f"{address}/archive.tar.gz", tmp_path / "got", "0000")


def test_links_and_foreign_paths_in_an_archive_are_ignored(tmp_path: Path) -> None:
    link = tarfile.TarInfo("etcd")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    make_archive(tmp_path / "archive.tar.gz", link, "../../kube-apiserver", "/kubectl")
    envtest.unpack(tmp_path / "archive.tar.gz", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"kube-apiserver", "kubectl"}
    assert {path.name for path in tmp_path.iterdir()} == {"archive.tar.gz", "out"}


def test_an_unreachable_archive_costs_three_seconds_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that drops packets: a listener whose queue is full does not answer."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        monkeypatch.setattr(envtest, "_PATTERN", f"http://127.0.0.1:{port}/archive")
        began = time.monotonic()
        with pytest.raises(envtest.UnavailableError, match=r"does not answer|cannot be reached"):
            envtest.fetch(Path("/nonexistent/folder"))
        assert time.monotonic() - began < 4
        for filler in fillers:
            filler.close()


_INSTALL = """
import sys
from pathlib import Path
from pelagos.embedded import binaries, envtest
envtest._PATTERN = "http://127.0.0.1:9/archive"
binaries._BUILD = Path(sys.argv[1])
print(binaries.install(lambda step: None).etcd)
"""


def test_installing_at_the_same_time_builds_once(cache: Path, tmp_path: Path) -> None:
    script = tmp_path / "build.sh"
    script.write_text(
        f'echo run >>{tmp_path}/runs; sleep 0.5; mkdir -p "$1"\n'
        'for name in etcd kube-apiserver; do printf "#!/bin/sh\\n" >"$1/$name"; chmod +x "$1/$name"; done\n'
    )
    command = [sys.executable, "-c", _INSTALL, str(script)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate(timeout=30)[0].strip() for process in running]
    assert outputs == [str(cache / binaries.DEBIAN / "etcd")] * 3
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_failed_build_shows_its_last_lines(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "build.sh"
    script.write_text("echo ':: compiling'; echo 'undefined: openapi' >&2; exit 1\n")
    monkeypatch.setattr(envtest, "_PATTERN", "http://127.0.0.1:9/archive")
    monkeypatch.setattr(binaries, "_BUILD", script)
    steps: list[str] = []
    with pytest.raises(StartError, match=r"(?s)last lines:\n  undefined: openapi"):
        binaries.install(steps.append)
    assert steps[-1] == "compiling"
