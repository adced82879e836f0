"""Finds etcd and kube-apiserver, or installs them. Called by `pelagos control-plane install` and before the supervisor starts.

In this order: the folder KUBEBUILDER_ASSETS, the cache, the official envtest archive, a build from the Go modules of Kubernetes
and etcd, and finally a build of the old version in Debian's source package.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pelagos.embedded import envtest, parent_death_wrapper, releases, upstream
from pelagos.embedded.failures import StartError
from pelagos.embedded.releases import Binaries, Release, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

cache = releases.cache
_BUILD = Path(__file__).with_name("build_control_plane.sh")
_PROGRESS = "::"
_ORDER = (Source.ARCHIVE, Source.MODULES, Source.DEBIAN)
_LAST_LINES = 15
_END_SECONDS = 5.0
_VERSION_SECONDS = 20.0


def assets() -> Binaries | None:
    """The programs in KUBEBUILDER_ASSETS. Raises StartError when it names a folder without them."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        return None
    found = releases.executable(Path(folder), Path(folder), "")
    if found is None:
        raise StartError(
            f"KUBEBUILDER_ASSETS is {folder}, which does not hold the programs etcd and kube-apiserver. "
            "Correct it, or unset it to let Pelagos look elsewhere."
        )
    return found


def find(version: str = "") -> Binaries | None:
    """The installed programs: the newest, or those of a version of Kubernetes. Raises StartError as ``assets`` does."""
    if not version and (found := assets()):
        return found
    return next(filter(None, (release.programs() for release in releases.matching(version))), None)


def require() -> Binaries:
    """The installed programs; raises StartError with the next step when there are none."""
    found = find()
    if found is None:
        raise StartError("etcd and kube-apiserver are not installed. Run `pelagos control-plane install` first.")
    return found


def told(programs: Binaries) -> str:
    """The version of Kubernetes, such as ``1.37.2``; if unknown, asked of the program itself. "" if it does not say."""
    if programs.version:
        return programs.version
    command = [str(programs.kube_apiserver), "--version"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().removeprefix("Kubernetes v").partition("-")[0][:20]


def installed(version: str = "", source: Source | None = None) -> Binaries | None:
    """Programs for which ``install`` would have nothing to do. Raises StartError for a version that Pelagos does not know."""
    wanted = _wanted(version, source)
    if not version and source is None and (found := assets()):
        return found
    # The old version from Debian's source is a last resort, even if it is already installed.
    current = [each for each in wanted if each.source is not Source.DEBIAN] or wanted
    return next(filter(None, (release.programs() for release in current)), None)


def install(report: Callable[[str], None], version: str = "", source: Source | None = None) -> Binaries:
    """Find or install the programs; ``report`` is called with each step. Safe to call from several processes at once.

    ``version`` (of Kubernetes) and ``source`` narrow the choice. Raises StartError with the next step when every source fails.
    """
    if found := installed(version, source):
        return found
    root = releases.cache()
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another installation of the control plane to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if found := installed(version, source):
            return found
        reasons = []
        for release in _tried(_wanted(version, source)):
            try:
                return _get(release, report)
            except envtest.UnavailableError as error:
                report(f"could not get it from {release.source}: {error}")
                reasons.append(f"{release.source}: {error}")
    raise StartError(_nothing(reasons))


def _wanted(version: str, source: Source | None) -> Sequence[Release]:
    wanted = releases.matching(version, source)
    if not wanted:
        every = ", ".join(f"{each.version} ({each.source})" for each in releases.known())
        asked = " from ".join(filter(None, (version, source)))
        raise StartError(
            f"There is no control plane {asked}. Pelagos knows {every}; for any other, set KUBEBUILDER_ASSETS "
            "to a folder with its etcd and kube-apiserver."
        )
    return wanted


def _tried(wanted: Sequence[Release]) -> list[Release]:
    """The releases to try, in the order of sources; of each source only the newest."""
    newest = (next((each for each in wanted if each.source is source), None) for source in _ORDER)
    return [each for each in newest if each is not None]


def _get(release: Release, report: Callable[[str], None]) -> Binaries:
    """Install one release. Raises UnavailableError when that fails."""
    if found := release.programs():
        report(f"using Kubernetes {release.version}, which is already installed")
        return found
    {Source.ARCHIVE: _download, Source.MODULES: _compile, Source.DEBIAN: _build}[release.source](release, report)
    found = release.programs()
    if found is None:
        raise envtest.UnavailableError("the programs do not exist afterwards")
    return found


def _download(release: Release, report: Callable[[str], None]) -> None:
    report(f"looking for the official envtest archive of Kubernetes {release.version} (about 70 MB)")
    envtest.fetch(release.version, releases.cache() / f"v{release.version}", report)


def _compile(release: Release, report: Callable[[str], None]) -> None:
    if shutil.which("bash") is None:
        raise envtest.UnavailableError("there is no bash")
    cores = len(os.sched_getaffinity(0))
    minutes = round(upstream.seconds() / cores / 60) + 1
    report(
        f"building kube-apiserver {release.version} and etcd {upstream.version('etcd')} from their Go modules, once: at most "
        f"{minutes} minutes on {cores} cores. An interrupted build continues where it stopped"
    )
    for component, program in upstream.PROGRAMS.items():
        _run(["bash", str(upstream.SCRIPT), str(upstream.modules(component)), program], report)


def _build(release: Release, report: Callable[[str], None]) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-query") is None:
        raise envtest.UnavailableError("this is not Debian")
    report(f"building Kubernetes {release.version} from Debian's source package; this takes 3 to 6 minutes, once")
    _run(["bash", str(_BUILD), str(releases.cache() / releases.DEBIAN)], report)


def _run(command: Sequence[str], report: Callable[[str], None]) -> None:
    """Run a script, which dies with us. Raises UnavailableError, with the last lines of its output, when it fails."""
    last: list[str] = []
    wrapped = [sys.executable, "-I", "-S", parent_death_wrapper.__file__, str(os.getpid()), *command]
    # For scripts that need a Python interpreter to install something.
    environment = {"PYTHON": sys.executable, **os.environ}
    with subprocess.Popen(
        wrapped, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
    ) as process:
        try:
            for line in process.stdout or ():
                if line.startswith(_PROGRESS):
                    report(line.removeprefix(_PROGRESS).strip())
                else:
                    last = [*last[1 - _LAST_LINES :], line.rstrip()]
        except BaseException:
            process.send_signal(parent_death_wrapper.KILL)  # kills everything that it started, too
            process.wait(_END_SECONDS)
            raise
    if process.returncode != 0:
        raise envtest.UnavailableError("\n  ".join(last) or f"exit code {process.returncode}")


def _nothing(reasons: Sequence[str]) -> str:
    return (
        "etcd and kube-apiserver can be neither downloaded nor built here.\n"
        + "".join(f"- {reason}\n" for reason in reasons)
        + "To fix this, you need one of: access to the archive's host; Go and a module proxy (GOPROXY), as `go env` shows them; "
        "Debian 12 with its package sources, and root or sudo without a password. Or download envtest for your machine from "
        f"{envtest.RELEASES} on another machine, unpack it, and set KUBEBUILDER_ASSETS to the folder with its programs."
    )
