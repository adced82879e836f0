"""The container engine of a node: containerd with its images and containers. Used by images.py and cluster.py."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.harness import machine, servers
from cluster.harness.namespaces import wait_until

if TYPE_CHECKING:
    from cluster.harness.namespaces import Node

PART = "containerd"
_HUB = "docker.io/"
"""The prefix that containerd gives to names without a registry."""
_START_SECONDS = 60.0


@dataclass(frozen=True)
class Engine:
    """The engine of one node; it keeps its images for the next run."""

    node: Node

    @classmethod
    def start(cls, node: Node, data: Path) -> Engine:
        """Start it with its images in ``data``; containers of an earlier run are removed."""
        node.spawn(PART, servers.container_engine(node.folder, data, node.place))
        made = cls(node)
        made._await_answer()
        if made.remove_containers():
            # It had loaded pods that no longer exist.
            node.restart(PART)
            made._await_answer()
        return made

    def ctr(self, *arguments: str, check: bool = True) -> str:
        """Run its client in the namespace of the kubelet's images and containers; returns its output."""
        return self.node.run(*_ctr(), *arguments, check=check).stdout

    def take(self, tag: str, identifier: str, archive: list[str]) -> None:
        """Import an image under a tag; returns when pods can use it.

        ``identifier`` is the digest of its configuration, and the command line ``archive`` writes it as `docker save` does.
        """
        known = self.listed()
        if identifier not in known:
            with subprocess.Popen(archive, stdout=subprocess.PIPE, env=dict(self.node.environment())) as saving:
                command = self.node.enter(*_ctr(), "images", "import", "-")
                subprocess.run(command, stdin=saving.stdout, check=True, capture_output=True)
            # The engine registers this name once it has processed the image.
            wait_until(lambda: identifier in self.listed(), f"pods can use {tag}", 30)
        elif known[identifier] != known.get(f"{_HUB}{tag}"):
            self.ctr("images", "tag", "--force", identifier, f"{_HUB}{tag}")

    def tag(self, tag: str, another: str) -> None:
        """Give an image that has a tag another tag."""
        self.ctr("images", "tag", "--force", f"{_HUB}{tag}", f"{_HUB}{another}")

    def remove(self, tag: str) -> None:
        """Remove a tag, so that pods cannot use it; no error if it does not exist."""
        self.ctr("images", "rm", f"{_HUB}{tag}", check=False)

    def listed(self) -> dict[str, str]:
        """Names of images -> digests of their manifests. One name of each image is the digest of its configuration."""
        lines = [line.split() for line in self.ctr("images", "ls").splitlines()[1:]]
        return {line[0]: line[2] for line in lines}

    def keep(self, identifiers: list[str]) -> None:
        """Remove all images except for these digests of configurations."""
        listed = self.listed()
        kept = {listed[identifier] for identifier in identifiers if identifier in listed}
        if old := [name for name, digest in listed.items() if digest not in kept]:
            self.ctr("images", "rm", *old, check=False)

    def remove_containers(self) -> bool:
        """Remove all containers; returns whether there were any."""
        found = self.ctr("containers", "ls", "--quiet", check=False).split()
        if found:
            self.ctr("tasks", "rm", "--force", *found, check=False)
            self.ctr("containers", "rm", *found, check=False)
        return bool(found)

    def _await_answer(self) -> None:
        wait_until(lambda: "Server" in self.ctr("version", check=False), "containerd answers", _START_SECONDS)


def _ctr() -> tuple[str | Path, ...]:
    return (machine.program("ctr"), f"--address={servers.CONTAINERD}", "--namespace=k8s.io")
