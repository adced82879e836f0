"""etcd and kube-apiserver are searched in a fixed order, downloaded only as published, and installed once."""

from __future__ import annotations

import hashlib
import io
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pelagos.embedded import binaries, envtest, releases, upstream
from pelagos.embedded.failures import StartError
from pelagos.embedded.releases import Source

MODULES, ARCHIVE = releases.known()[0].version, next(iter(envtest.ARCHIVES))


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
            """Write no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def make_programs(*folders: Path, version: str = "") -> None:
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("etcd", "kube-apiserver"):
            (folder / name).write_text(f"#!/bin/sh\necho Kubernetes v{version}\n")
            (folder / name).chmod(0o755)


def make_release(version: str) -> Path:
    """Create the programs of one version in the cache; returns the folder of kube-apiserver."""
    (release,) = releases.matching(version)
    folders = {
        Source.ARCHIVE: (releases.cache() / f"v{version}",),
        Source.MODULES: (upstream.folder("etcd"), upstream.folder("kubernetes")),
        Source.DEBIAN: (releases.cache() / releases.DEBIAN,),
    }[release.source]
    make_programs(*folders, version=version)
    return folders[-1]


def make_archive(path: Path, *members: tarfile.TarInfo | str) -> str:
    """Write an archive like the official one; returns its SHA-512."""
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            content = b"" if isinstance(member, tarfile.TarInfo) else b"#!/bin/sh\n"
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return hashlib.sha512(path.read_bytes()).hexdigest()


def test_kubebuilder_assets_come_before_the_cache(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_release(MODULES)
    make_programs(tmp_path / "assets", version="1.33.1")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    found = binaries.require()
    assert found.etcd == tmp_path / "assets" / "etcd"
    assert binaries.told(found) == "1.33.1"
    assert binaries.installed() == found


def test_wrong_kubebuilder_assets_are_refused_by_name(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_release("1.20.2")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "nothing"))
    with pytest.raises(StartError, match=r"KUBEBUILDER_ASSETS is .*nothing"):
        binaries.find()


def test_the_newest_in_the_cache_is_taken(cache: Path) -> None:
    for version in ("1.20.2", "1.30.0", ARCHIVE, MODULES):
        folder = make_release(version)
        assert binaries.require().kube_apiserver == folder / "kube-apiserver"
        assert binaries.require().version == version
    for version in ("1.20.2", "1.30.0", ARCHIVE, MODULES):
        found = binaries.find(version)
        assert found is not None
        assert found.version == version


def test_a_program_that_cannot_be_executed_does_not_count(cache: Path) -> None:
    (make_release("1.20.2") / "etcd").chmod(0o644)
    with pytest.raises(StartError, match="control-plane install"):
        binaries.require()


def test_an_unknown_version_names_those_there_are(cache: Path) -> None:
    with pytest.raises(StartError, match=r"no control plane 9\.9 from debian\. Pelagos knows .*1\.20\.2 \(debian\)"):
        binaries.install(print, "9.9", Source.DEBIAN)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the archive nor modules nor Debian can be reached."""
    monkeypatch.setattr(envtest, "_PATTERN", "http://127.0.0.1:9/{version}/{architecture}")
    monkeypatch.setenv("PATH", "/nonexistent")


@pytest.mark.usefixtures("nowhere")
def test_where_nothing_can_be_had_the_next_steps_are_named(cache: Path) -> None:
    steps: list[str] = []
    with pytest.raises(StartError, match="set KUBEBUILDER_ASSETS") as failure:
        binaries.install(steps.append)
    assert any("127.0.0.1:9 cannot be reached" in step for step in steps)
    assert "- modules: " in str(failure.value)
    assert "- debian: this is not Debian" in str(failure.value)


@pytest.mark.usefixtures("nowhere")
def test_the_old_version_is_kept_where_no_newer_can_be_had(cache: Path) -> None:
    folder = make_release("1.20.2")
    assert binaries.installed() is None
    steps: list[str] = []
    assert binaries.install(steps.append).etcd == folder / "etcd"
    assert steps[-1] == "using Kubernetes 1.20.2, which is already installed"
    assert binaries.installed("1.20.2") == binaries.installed(source=Source.DEBIAN) == binaries.find()


def test_the_archive_comes_before_what_takes_minutes(
    cache: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    checksum = make_archive(folder / "archive.tar.gz", "etcd", "kube-apiserver")
    serve_archive(monkeypatch, f"{address}/archive.tar.gz", checksum)
    for name in ("_compile", "_build"):
        monkeypatch.setattr(binaries, name, None)
    assert binaries.install(print).version == ARCHIVE
    assert binaries.install(print, "1.30.0").version == "1.30.0"


def serve_archive(monkeypatch: pytest.MonkeyPatch, address: str, checksum: str) -> None:
    monkeypatch.setattr(envtest, "_PATTERN", address)
    known = {version: dict.fromkeys(sums, checksum) for version, sums in envtest.ARCHIVES.items()}
    monkeypatch.setattr(envtest, "ARCHIVES", known)


def test_a_download_is_verified_unpacked_and_executable(
    cache: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    names = ("controller-tools/envtest/etcd", "controller-tools/envtest/kube-apiserver", "controller-tools/README")
    checksum = make_archive(folder / "archive.tar.gz", *names)
    serve_archive(monkeypatch, f"{address}/archive.tar.gz", checksum)
    found = binaries.install(lambda _: None, source=Source.ARCHIVE)
    assert found.etcd == cache / f"v{ARCHIVE}" / "etcd"
    assert {path.name for path in found.etcd.parent.iterdir()} == {"etcd", "kube-apiserver"}


def test_a_changed_download_is_never_unpacked(tmp_path: Path, served: tuple[Path, str]) -> None:
    folder, address = served
    make_archive(folder / "archive.tar.gz", "etcd")
    with pytest.raises(envtest.UnavailableError, match="not the published 0000"):
        envtest.download(f"{address}/archive.tar.gz", tmp_path / "got", "0000", print)


def test_links_and_foreign_paths_in_an_archive_are_ignored(tmp_path: Path) -> None:
    link = tarfile.TarInfo("etcd")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    make_archive(tmp_path / "archive.tar.gz", link, "../../kube-apiserver", "/kubectl")
    envtest.unpack(tmp_path / "archive.tar.gz", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"kube-apiserver", "kubectl"}
    assert {path.name for path in tmp_path.iterdir()} == {"archive.tar.gz", "out"}


def test_an_unreachable_archive_costs_seconds_and_not_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Like a network that drops packets: a listener whose queue is full does not answer."""
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
            envtest.fetch(ARCHIVE, Path("/nonexistent/folder"), print)
        assert time.monotonic() - began < 30
        for filler in fillers:
            filler.close()


_INSTALL = """
import signal
import sys
from pathlib import Path
from pelagos.embedded import binaries
# As in a terminal, even where a shell that started the tests in its background lets them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
binaries._BUILD = Path(sys.argv[1])
print(binaries.install(print, source=binaries.Source.DEBIAN).etcd)
"""


def build_script(folder: Path, lines: str) -> Path:
    """A script that replaces the long build."""
    script = folder / "build.sh"
    script.write_text(lines)
    return script


def test_installing_at_the_same_time_builds_once(cache: Path, tmp_path: Path) -> None:
    script = build_script(
        tmp_path,
        f'echo run >>{tmp_path}/runs; sleep 0.5; mkdir -p "$1"\n'
        'for name in etcd kube-apiserver; do printf "#!/bin/sh\\n" >"$1/$name"; chmod +x "$1/$name"; done\n',
    )
    command = [sys.executable, "-c", _INSTALL, str(script)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate(timeout=120)[0].splitlines()[-1] for process in running]
    assert outputs == [str(cache / releases.DEBIAN / "etcd")] * 3
    assert (tmp_path / "runs").read_text() == "run\n"


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_build_ends_with_its_command(cache: Path, tmp_path: Path, sign: signal.Signals) -> None:
    script = build_script(
        tmp_path, f"echo $$ >{tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; sleep 60; exit 1\n"
    )
    process = subprocess.Popen([sys.executable, "-c", _INSTALL, str(script)], stderr=subprocess.DEVNULL)
    until((tmp_path / "pid").exists)
    build = Path("/proc") / (tmp_path / "pid").read_text().strip()
    assert build.exists()
    process.send_signal(sign)
    process.wait(60)
    until(lambda: not build.exists())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_failed_build_shows_its_last_lines(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = build_script(tmp_path, "echo ':: compiling'; echo 'undefined: openapi' >&2; exit 1\n")
    monkeypatch.setattr(binaries, "_BUILD", script)
    steps: list[str] = []
    with pytest.raises(StartError, match=r"(?s)- debian: undefined: openapi"):
        binaries.install(steps.append, source=Source.DEBIAN)
    assert "compiling" in steps


def test_a_build_from_modules_says_what_it_will_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], report: Callable[[str], None]) -> None:
        asked.append(command)
        make_release(MODULES)

    monkeypatch.setattr(binaries, "_run", run)
    steps: list[str] = []
    assert binaries.install(steps.append, source=Source.MODULES).version == MODULES
    assert re.fullmatch(
        r"building kube-apiserver 1\.\d+\.\d+ and etcd 3\.\d+\.\d+ from their Go modules, once: at most \d+ minutes "
        r"on \d+ cores\. An interrupted build continues where it stopped",
        steps[0],
    )
    assert [command[-1] for command in asked] == ["etcd", "kube-apiserver"]
    assert all(Path(command[1]).is_file() and Path(command[2], "go.sum").is_file() for command in asked)


def test_the_scripts_and_pelagos_mean_the_same_folder(cache: Path) -> None:
    for component in upstream.PROGRAMS:
        command = ["bash", str(upstream.SCRIPT), "--where", str(upstream.modules(component))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert Path(done.stdout.strip()) == upstream.folder(component)
