"""Builds the container images, pushes them if asked to, and writes what installs exactly these: `make images REGISTRY=...`.

Below build/images, for CPU and GPU each: a component of kustomize and values of the chart, which name every image by its digest
(by its tag where it was not pushed), and a bill of materials of each image. Nothing that is committed is changed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from pelagos.cli.container_engines import Engine, RefusedError, usable

ROOT = Path(__file__).parents[1]
PUBLISHED = "ghcr.io/pelagos"
"""The registry in the committed manifests."""
_REGISTRY = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}")
_PLACES = {
    "operator": ("cpu", "gpu"),
    "trainer": ("gpu",),
    "trainer-cpu": ("cpu",),
    "serving": ("gpu",),
    "serving-cpu": ("cpu",),
    "hub": ("cpu", "gpu"),
}
"""The installations that use each image, by image."""
_STARTED = {"trainer", "serving"}
"""Images that the operator starts, as its own settings name them."""


@dataclass(frozen=True)
class Image:
    """One of our images: a folder below images/, and a variant of it."""

    name: str
    variant: str = ""
    options: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Its name here and in its bill of materials."""
        return f"{self.name}-{self.variant}" if self.variant else self.name

    @property
    def folder(self) -> Path:
        """The folder of its Dockerfile."""
        return ROOT / "images" / self.name


@dataclass(frozen=True)
class Built:
    """An image that was built, and perhaps pushed."""

    image: Image
    repository: str
    tag: str
    id: str
    digest: str = ""
    """The digest in the registry; empty if it was not pushed."""

    @property
    def reference(self) -> str:
        """The reference that pods use."""
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"


@dataclass(frozen=True)
class Origin:
    """The source of the images."""

    version: str
    revision: str
    epoch: int
    """Time of the commit in seconds since 1970, so that the same commit gives the same labels."""
    source: str

    def labels(self) -> dict[str, str]:
        """Labels of the Open Container Initiative that depend on the commit; Dockerfiles contain licences and titles."""
        created = datetime.fromtimestamp(self.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        given = {"created": created, "revision": self.revision, "version": self.version, "source": self.source}
        return {f"org.opencontainers.image.{name}": value for name, value in given.items() if value}


def known(torch_index: str = "") -> dict[str, Image]:
    """All images that can be built from this tree, by title."""
    found = [
        Image("operator"),
        Image("trainer"),
        Image("trainer", "cpu", ("--build-arg=VARIANT=cpu", f"--build-arg=TORCH_INDEX={torch_index}")),
        Image("serving"),
        Image("serving", "cpu", ("--target=cpu", f"--build-arg=BASE={_python()}")),
        Image("deepaas"),
    ]
    later = (Image(name) for name in ("gateway", "hub"))
    return {image.title: image for image in (*found, *(image for image in later if image.folder.is_dir()))}


def _python() -> str:
    """The operator's base image, pinned by digest, which is also that of model servers without CUDA."""
    text = (ROOT / "images" / "operator" / "Dockerfile").read_text(encoding="utf-8")
    return next(line.removeprefix("ARG BASE=") for line in text.splitlines() if line.startswith("ARG BASE="))


def _build(engine: Engine, image: Image, reference: str, origin: Origin, options: Sequence[str]) -> str:
    """Build an image; returns its id."""
    labels = (f"--label={name}={value}" for name, value in origin.labels().items())
    versions = (f"--build-arg=VERSION={origin.version}", f"--build-arg=REVISION={origin.revision}")
    file = image.folder / "Dockerfile"
    return engine.build(ROOT, file, reference, (*versions, *labels, *image.options, *options), origin.epoch)


def origin(source: str) -> tuple[Origin, bool]:
    """The origin of this tree, and whether it differs from its commit."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    try:
        revision, epoch = _git("log", "-1", "--format=%H %ct").split()
        is_changed = bool(_git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError) as problem:
        raise RefusedError(
            "Images are labelled with their commit, and this folder is no work tree of Git."
        ) from problem
    named = source or without_credentials(_git("config", "--default=", "--get", "remote.origin.url").strip())
    return Origin(version, f"{revision}{'-dirty' * is_changed}", int(epoch), named), is_changed


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def without_credentials(remote: str) -> str:
    """The public URL of the source, without a login; empty if it is not a URL, such as a folder."""
    parts = urlsplit(remote)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def kustomization(built: Iterable[Built], place: str) -> dict[str, Any]:
    """A component of kustomize that sets these images in the kustomization that includes it."""
    images, variables = [], []
    for each in _of(built, place):
        named = {"digest": each.digest} if each.digest else {"newTag": each.tag}
        images.append({"name": f"{PUBLISHED}/{each.image.name}", "newName": each.repository, **named})
        if each.image.name in _STARTED:
            variables.append({"name": f"PELAGOS_{each.image.name.upper()}_IMAGE", "value": each.reference})
    body = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component", "images": images}
    if not variables:
        return body
    target = {"name": "pelagos-operator", "namespace": "pelagos-system"}
    pod = {"template": {"spec": {"containers": [{"name": "operator", "env": variables}]}}}
    patch = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": target, "spec": pod}
    return {**body, "patches": [{"patch": yaml.safe_dump(patch, sort_keys=False)}]}


def values(built: Iterable[Built], place: str) -> dict[str, Any]:
    """Values of the chart that set these images."""
    found: dict[str, Any] = {}
    for each in _of(built, place):
        if each.image.name == "operator":
            found["image"] = {"repository": each.repository, "tag": each.tag, "digest": each.digest}
        elif each.image.name in _STARTED:
            found.setdefault("engines", {})[f"{each.image.name}Image"] = each.reference
        else:
            found[each.image.name] = {"image": each.reference}
    return found


def _of(built: Iterable[Built], place: str) -> Iterator[Built]:
    return (each for each in built if place in _PLACES.get(each.image.title, ()))


def write(built: Sequence[Built], folder: Path) -> None:
    """Write the components and values that install these images."""
    for place in ("cpu", "gpu"):
        (folder / place).mkdir(parents=True, exist_ok=True)
        for name, body in (("kustomization", kustomization(built, place)), ("values", values(built, place))):
            text = yaml.safe_dump(body, sort_keys=False, width=1000)
            (folder / place / f"{name}.yaml").write_text(f"# Written by `make images`.\n{text}", encoding="utf-8")


def write_bills(built: Sequence[Built], folder: Path) -> None:
    """Write a bill of materials for each image."""
    titles = [each.image.title for each in built]
    subprocess.run([ROOT / "tools" / "sbom.sh", folder / "sbom", *titles], stdout=sys.stderr, check=True)


def chosen(names: str, torch_index: str) -> list[Image]:
    """The images with these names; if none is named, all that can be built."""
    images = known(torch_index)
    listed = names.split() or [name for name in images if name != "trainer-cpu" or torch_index]
    if unknown := [name for name in listed if name not in images]:
        raise RefusedError(f"IMAGES names {', '.join(unknown)}; there are {', '.join(images)}.")
    if "trainer-cpu" in listed and not torch_index:
        raise RefusedError(
            "trainer-cpu needs TORCH_INDEX: the URL of the package index with PyTorch's builds for the CPU."
        )
    return [images[name] for name in dict.fromkeys(listed)]


def make(options: argparse.Namespace) -> list[Built]:
    """Build the chosen images, push them if requested, and write the files."""
    if not _REGISTRY.fullmatch(options.registry):
        raise RefusedError(
            f"REGISTRY is {options.registry!r}; it is a host and a path, like registry.example.org/pelagos."
        )
    images = chosen(options.images, options.torch_index)
    built_from, is_changed = origin(options.source)
    if options.push and is_changed:
        raise RefusedError(
            "PUSH=1 needs a work tree without changes, so that others find the source of what was pushed. Commit first."
        )
    tag = options.tag or f"{built_from.version}-{built_from.revision[:12]}{'-dirty' * is_changed}"
    if not _TAG.fullmatch(tag):
        raise RefusedError(
            f"TAG is {tag!r}; it has up to 101 letters, digits, '_', '.' and '-', of which the last two do not begin it."
        )
    program = usable(options.engine, "ENGINE")
    with tempfile.TemporaryDirectory(prefix="pelagos-images-") as folder:
        engine = Engine(program, Path(folder))
        built = [_one(engine, image, options, built_from, tag) for image in images]
    write(built, options.folder)
    return built


def _one(engine: Engine, image: Image, options: argparse.Namespace, built_from: Origin, tag: str) -> Built:
    repository = f"{options.registry}/{image.name}"
    own_tag = f"{tag}-{image.variant}" if image.variant else tag
    reference = f"{repository}:{own_tag}"
    print(f"Building {reference} with {engine.program}", file=sys.stderr)
    identity = _build(engine, image, reference, built_from, options.build_options.split())
    digest = engine.push(repository, reference) if options.push else ""
    return Built(image, repository, own_tag, identity, digest)


def main() -> int:
    """Parse the options and build; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--registry", default="")
    parser.add_argument("--tag", default="")
    parser.add_argument("--push", action="store_true")
    parser.add_argument("--engine", default="")
    parser.add_argument("--images", default="")
    parser.add_argument("--torch-index", default="")
    parser.add_argument("--source", default="")
    parser.add_argument("--build-options", default="", help="for each build, like --network=host")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "images")
    options = parser.parse_args()
    try:
        built = make(options)
        write_bills(built, options.folder)
    except RefusedError as refused:
        print(refused, file=sys.stderr)
        return 1
    for each in built:
        print(each.reference if each.digest else f"{each.reference} (not pushed; image {each.id})")
    print(f"{options.folder} holds components of kustomize, values of the chart and bills of materials for them.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
