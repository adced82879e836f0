"""Which control plane may continue with the resources in a home: the version that wrote them, or the next minor version.

etcd 3.7 cannot read the data of etcd 3.4, and an API server reads only what its predecessor stored. So a home keeps the control
plane that it began with, even if a newer one is installed later, and no upgrade of Pelagos loses resources.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pelagos.embedded import binaries, envtest, releases
from pelagos.embedded.failures import StartError
from pelagos_contract import disk

if TYPE_CHECKING:
    from pelagos.embedded.layout import Layout
    from pelagos.embedded.releases import Binaries

_BEFORE_RECORDS = "1.20.2", "1.30.0"
"""The versions that Pelagos ran before it recorded the writer: Debian's, unless the archive of that time was installed."""
_LONGEST = 100


def writer(layout: Layout) -> str:
    """The version of Kubernetes that wrote this home's resources, such as ``1.37.2``; "" when there are none yet."""
    if not layout.store.exists():
        return ""
    recorded = _recorded(layout)
    if _number(recorded):
        return recorded
    debian, archive = _BEFORE_RECORDS
    there = archive in envtest.ARCHIVES and binaries.find(archive) is not None
    return archive if there else debian


def choose(layout: Layout) -> Binaries | None:
    """The control plane for this home; None when the one it needs is not installed.

    Raises StartError when KUBEBUILDER_ASSETS names one that cannot continue with this home.
    """
    written = writer(layout)
    given = binaries.assets()
    if not written:
        return given or binaries.find()
    if given is not None:
        if layout.store_writer.exists() and not follows(written, binaries.told(given)):
            raise StartError(
                f"The resources in {layout.home} were written by Kubernetes {written}; Kubernetes "
                f"{binaries.told(given) or '(of an unknown version)'} in KUBEBUILDER_ASSETS cannot use them. "
                f"Unset KUBEBUILDER_ASSETS, or {anew(layout)}"
            )
        return given
    there = (release.programs() for release in releases.known() if follows(written, release.version))
    return binaries.find(written) or next(filter(None, there), None)


def require(layout: Layout) -> Binaries:
    """The control plane for this home. Raises StartError with the next step when it is not installed."""
    found = choose(layout)
    if found is not None:
        return found
    written = writer(layout)
    if not written:
        return binaries.require()
    raise StartError(
        f"The resources in {layout.home} were written by Kubernetes {written}, which is not installed, and no installed "
        f"version can use them. Run `pelagos control-plane install --version {written}`, or {anew(layout)}"
    )


def record(layout: Layout, programs: Binaries) -> None:
    """Record the version that is about to write to the store. Raises OSError."""
    version = binaries.told(programs)
    if version and version != _recorded(layout):
        disk.write_atomically(layout.store_writer, version + "\n", mode=disk.PRIVATE)


def kept(layout: Layout, programs: Binaries) -> str:
    """A message when this home stays with a control plane older than the newest installed one; else ""."""
    newest = binaries.find()
    if newest is None or not programs.version or not newest.version or newest.version == programs.version:
        return ""
    return (
        f"The resources in {layout.home} were written by Kubernetes {programs.version}, which is still used for "
        f"them; {newest.version} is also installed. To move to it, save what you want to keep (kubectl get ... -o yaml), "
        f"then {anew(layout)}"
    )


def anew(layout: Layout) -> str:
    """Instructions for starting without the resources, as the end of a message."""
    return f"start again without its resources: pelagos down, then move {layout.etcd} away, then pelagos up."


def follows(written: str, version: str) -> bool:
    """Whether ``version`` can continue with what ``written`` wrote: it must have the same minor version, or the next."""
    before, after = _number(written), _number(version)
    return bool(before and after) and before[0] == after[0] and 0 <= after[1] - before[1] <= 1


def _recorded(layout: Layout) -> str:
    try:
        return layout.store_writer.read_text(encoding="utf-8", errors="replace")[:_LONGEST].strip()
    except FileNotFoundError:
        return ""


def _number(version: str) -> tuple[int, ...]:
    found = re.match(r"(\d{1,3})\.(\d{1,3})\b", version)
    return tuple(map(int, found.groups())) if found else ()
