"""Versions written from real sources, without the cleaning and splitting that the step prepare adds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

import image_sources
from pelagos_contract.splits import SPLITS, Split
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.annotations.model import Collection
from pelagos_pipelines.preparation import integrity, locks, versions

RECIPE: Mapping[str, Any] = {"task": "Detection", "split": {"seed": 1}}


def detection(source: Path, images: int = 9) -> Path:
    """A YOLO source; the i-th image has i boxes of the classes cod and eel."""
    image_sources.text(source / "data.yaml", "names: [cod, eel]\n")
    for index in range(images):
        image_sources.photo(source / "images" / f"{index}.png", 40 + index, 30, seed=index)
        rows = [f"{box % 2} 0.5 {0.1 + box / 20:.3f} 0.25 0.1" for box in range(index)]
        image_sources.text(source / "labels" / f"{index}.txt", "\n".join(rows))
    return source


def classification(source: Path) -> Path:
    """An ImageFolder source with two classes."""
    for index in range(8):
        image_sources.photo(source / ("cod", "eel")[index % 2] / f"{index}.jpg", seed=index)
    return source


def write(
    store: Path,
    source: Path,
    task: Task = Task.DETECTION,
    *,
    recipe: Mapping[str, Any] = RECIPE,
    captures: Mapping[str, Capture] = MappingProxyType({}),
) -> versions.Version:
    """Write a version whose images take the splits in turn; ``captures`` are those of some images, by their paths."""
    tree = image_sources.tree_of(source)
    inspections = integrity.inspect_tree(tree, store / "inspections.json")
    found = image_sources.read(source, task)
    splits: list[Split] = [SPLITS[index % 3] for index in range(len(found.images))]
    images = tuple(
        replace(
            image,
            split=split,
            width=inspections[image.path].width,
            height=inspections[image.path].height,
            capture=captures.get(image.path),
        )
        for image, split in zip(found.images, splits, strict=True)
    )
    with locks.locked(store):
        return versions.write(store, tree, Collection(found.task, found.classes, images), inspections, recipe)


def before_exclusions(version: versions.Version) -> Path:
    """Rewrite the version in place as releases wrote it before versions listed what they leave out."""
    manifest: dict[str, Any] = orjson.loads((version.folder / "manifest.json").read_bytes())
    del manifest["digest"], manifest["excluded"]
    marks = orjson.loads((version.folder / "annotations.json").read_bytes())
    whole = [orjson.dumps(part, option=orjson.OPT_SORT_KEYS) for part in (manifest, marks)]
    digest = hashlib.sha256(b"[" + b",".join(whole) + b"]").hexdigest()
    (version.folder / versions.EXCLUDED).unlink()
    (version.folder / "manifest.json").write_bytes(orjson.dumps({**manifest, "digest": f"sha256:{digest}"}))
    return version.folder.rename(version.folder.with_name(digest))
