"""The images of the nodes: Debian's dockerd builds them and hands them to the nodes' container engines (engine.py).

Nothing is fetched while an image is built.

Base: a small Debian (tools/node/base_image.sh). Wheels: the packages locked in requirements/*.txt, fetched once from this
machine's own package index by the `pip` that installs everything else, and passed to the build as an image that contains only
them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.harness import machine, servers

if TYPE_CHECKING:
    from cluster.harness.engine import Engine
    from cluster.harness.namespaces import Node

OURS = "control-plane triton gateway hub"
"""Locked requirements of our images. One image holds the wheels of all, so that builds of several images share its layers."""
IMAGES = {
    "operator": ("", OURS),
    "serving": ("cpu", OURS),
    "trainer": ("runtime", ""),
    "gateway": ("", OURS),
    "hub": ("", OURS),
    "deepaas": ("", "deepaas"),
}
"""Folder below images/ -> (target of its Dockerfile, locked requirements that it needs).

The trainer's environment of several gigabytes is left out: see platform/environments.py.
"""
_REPOSITORY = "pelagos-test"
_SOURCES = ("--no-binary=aiohttp-apispec,kfp-server-api,pyinotify",)
"""Packages that are published only as source, which needs setuptools."""
# The shell reacts to SIGTERM at once; `sleep` as the first process of a container would not.
_PAUSE = 'FROM {base}\nCMD ["sh", "-c", "trap \'exit 0\' TERM; while :; do sleep 3600 & wait $!; done"]\n'
_BUILD_BASE = "FROM {base}\nRUN python3 -m venv /opt/pip && ln -s /opt/pip/bin/pip /usr/local/bin/pip\n"
_AROUND = 'FROM {base}\nCOPY {program} {path}\nUSER 65532:65532\nENTRYPOINT ["{path}"]\n'


@dataclass(frozen=True)
class Images:
    """Images in the builder, which is on ``node``, and in the nodes' container engines; all keep them for the next run."""

    node: Node
    engines: list[Engine] = field(default_factory=list)

    def docker(self, *arguments: str | Path, text: str | None = None, check: bool = True) -> str:
        """Run Debian's docker client; returns its output."""
        return self.node.run("docker", f"--host={servers.DOCKER}", *arguments, text=text, check=check).stdout

    def has(self, tag: str) -> bool:
        """Whether the builder has an image."""
        return bool(self.docker("image", "ls", "--quiet", tag).strip())

    def inspect(self, tag: str) -> Any:
        """An image's configuration."""
        return json.loads(self.docker("image", "inspect", tag))[0]

    def prepare(self) -> None:
        """Build what every node needs: the base image and the pause image that holds a pod's network."""
        if not self.has(self.base()):
            self.docker("import", machine.base_archive(), self.base())
        self.docker("build", "--quiet", f"--tag={servers.PAUSE}", "-", text=_PAUSE.format(base=self.base()))
        for tag in (self.base(), servers.PAUSE):
            self.publish(tag)

    def publish(self, tag: str) -> None:
        """Bring the current image of a tag to nodes that have another one; returns when pods can use it."""
        identifier = self.inspect(tag)["Id"]
        archive = self.node.enter("docker", f"--host={servers.DOCKER}", "save", tag)
        for engine in self._living():
            engine.take(tag, identifier, archive)

    def join(self, engine: Engine, *tags: str) -> None:
        """Give a further node the base image, the pause image, and images that were built."""
        engine.keep(self._built())
        self.engines.append(engine)
        for tag in (self.base(), servers.PAUSE, *tags):
            self.publish(tag)

    def _living(self) -> list[Engine]:
        """The container engines, except for those of nodes whose power was cut."""
        return [engine for engine in self.engines if engine.node.holder.poll() is None]

    def tag(self, tag: str, another: str) -> None:
        """Give an image that has a tag another tag, on all nodes."""
        for engine in self._living():
            engine.tag(tag, another)

    def remove(self, tag: str) -> None:
        """Remove a tag on all nodes; no error if it does not exist."""
        for engine in self._living():
            engine.remove(tag)

    def prune(self) -> None:
        """Remove images that newer builds have replaced; layers that builds may use again are kept."""
        for tag in self.docker("image", "ls", "--format={{.Repository}}:{{.Tag}}", f"{_REPOSITORY}/wheels").split():
            names, _, digest = tag.rpartition(":")[2].rpartition("-")
            locks = [_lock(name) for name in names.split(".")]
            if not all(lock.exists() for lock in locks) or digest != _digest(*locks):
                self.docker("rmi", tag, check=False)
        # Each run that tests `make images` leaves separate images, under names of a registry that no longer exists.
        for name in self.docker("image", "ls", "--format={{.Repository}}:{{.Tag}}").split():
            if not name.startswith(f"{_REPOSITORY}/"):
                self.docker("rmi", name, check=False)
        self.docker("image", "prune", "--force", check=False)
        self.engines[0].keep(self._built())

    def _built(self) -> list[str]:
        """Digests of the configurations of all images that the builder has."""
        return self.docker("image", "ls", "--quiet", "--no-trunc").split()

    def base(self) -> str:
        """The small Debian with Python 3.11: has sh, python3, libpython3.11; no pip."""
        recipe = machine.base_archive().with_name(f"{machine.base_archive().name}.recipe")
        return f"{_REPOSITORY}/base:{_digest(recipe)}"

    def build(self, name: str, tree: Path = machine.ROOT, label: str = "test") -> str:
        """Build one of IMAGES offline, from a work tree, the base and locked wheels; returns the tag, which pods can use."""
        target, wheels = IMAGES[name]
        return self.build_from(tree / "images" / name / "Dockerfile", tree, f"{name}:{label}", wheels, target)

    def build_from(self, dockerfile: Path, context: Path, name: str, wheels: str, target: str = "") -> str:
        """The same, for another Dockerfile and another folder."""
        tag = f"{_REPOSITORY}/{name if ':' in name else f'{name}:test'}"
        self.docker(
            *("build", "--quiet", f"--tag={tag}", *([f"--target={target}"] if target else [])),
            *self.offline(wheels),
            *(f"--file={dockerfile}", context),
        )
        self.publish(tag)
        return tag

    def build_around(self, program: Path, path: str = "/manager") -> str:
        """Build an image with one program at ``path``, which it runs with its arguments; returns the tag, which pods can use."""
        tag = f"{_REPOSITORY}/{program.name}:test"
        recipe = _AROUND.format(base=self.base(), program=program.name, path=path)
        with tempfile.TemporaryDirectory(prefix="pelagos-image-") as folder:
            shutil.copy(program, folder)
            Path(folder, "Dockerfile").write_text(recipe, encoding="utf-8")
            self.docker("build", "--quiet", "--network=none", f"--tag={tag}", folder)
        self.publish(tag)
        return tag

    def offline(self, wheels: str) -> list[str]:
        """Options for a build whose base and packages come from this machine."""
        build_base = f"{_REPOSITORY}/build-base:{self.base().partition(':')[2]}"
        self.docker(
            "build", "--quiet", "--network=none", f"--tag={build_base}", "-", text=_BUILD_BASE.format(base=self.base())
        )
        given = {"BASE": self.base(), "BUILD_BASE": build_base, "WHEELS": self._wheels(wheels), "PIP_NO_INDEX": "1"}
        return ["--network=none", *(f"--build-arg={key}={value}" for key, value in given.items())]

    def _wheels(self, names: str) -> str:
        """The image with the wheels of locked files, whose names are separated by spaces; `scratch` for none."""
        if not names:
            return "scratch"
        locks = [_lock(name) for name in names.split()]
        tag = f"{_REPOSITORY}/wheels:{names.replace(' ', '.')}-{_digest(*locks)}"
        if not self.has(tag):
            with tempfile.TemporaryDirectory(prefix="pelagos-wheels-") as folder:
                tree, archive = Path(folder, "tree"), Path(folder, "wheels.tar")
                tree.mkdir()
                for lock in locks:
                    _download(lock, tree)
                subprocess.run(["tar", "-cf", archive, "-C", tree, "."], check=True)
                self.docker("import", archive, tag)
        return tag


def _download(requirements: Path, folder: Path) -> None:
    locked = ("--require-hashes", "--no-deps", "--only-binary=:all:", *_SOURCES, f"--requirement={requirements}")
    _pip("download", *locked, f"--dest={folder}")
    if list(folder.glob("*.tar.gz")):
        _pip("download", "--only-binary=:all:", f"--dest={folder}", "setuptools", "wheel")


def _pip(*arguments: str) -> None:
    command = [str(machine.ENVIRONMENTS / "tools" / "bin" / "pip"), *arguments, "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.stderr[-3000:]}")


def _lock(name: str) -> Path:
    return machine.ROOT / "requirements" / f"{name}.txt"


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
