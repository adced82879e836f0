"""Versions written from real sources, without the cleaning and splitting that the task prepare adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import image_sources
from pelagos_pipelines.annotations.model import Collection
from pelagos_pipelines.contract import SPLITS, Split, Task
from pelagos_pipelines.preparation import integrity, versions

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
    store: Path, source: Path, task: Task = Task.DETECTION, *, recipe: Mapping[str, Any] = RECIPE
) -> versions.Version:
    """Images take the splits in turn."""
    tree = image_sources.tree_of(source)
    inspections = integrity.inspect_tree(tree, store / "inspections.json")
    found = image_sources.read(source, task)
    splits: list[Split] = [SPLITS[index % 3] for index in range(len(found.images))]
    images = tuple(
        replace(image, split=split, width=inspections[image.path].width, height=inspections[image.path].height)
        for image, split in zip(found.images, splits, strict=True)
    )
    with versions.locked(store):
        return versions.write(store, tree, Collection(found.task, found.classes, images), inspections, recipe)
