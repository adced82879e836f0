"""Finds the text files with class names and the lists of splits where there is no data.yaml. Called by yolo.

classes.txt at the root takes precedence over the files of darknet and CVAT (obj.names, to which obj.data refers), and those over
the files that LabelImg leaves in the folders of the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from pelagos_contract.failures import RefusedError
from pelagos_pipelines.annotations import naming, pairing, reading
from pelagos_pipelines.annotations.model import SourceFiles, split_of, suffix
from pelagos_pipelines.annotations.untrusted_input import format_names, invalid

AT_ROOT = "classes.txt"
_MOST = 20
"""Most class lists in folders of labels that are compared."""


@dataclass(frozen=True)
class Stated:
    """The content of obj.data at ``path``: the file with the names, and the lists of splits. ``lost`` are keys of missing
    files."""

    path: str | None = None
    names: str | None = None
    splits: dict[str, str] = field(default_factory=dict)
    lost: tuple[str, ...] = ()


def groups(tree: SourceFiles) -> list[Sequence[str]]:
    """The files with class names in order of precedence; those in a group have the same precedence."""
    darknet = [path for path in tree.at_root if suffix(path) == ".names"]
    named = stated(tree).names if darknet or AT_ROOT not in tree.known else None
    found = [[AT_ROOT] if AT_ROOT in tree.known else [], darknet if named is None else [named], _beside_labels(tree)]
    return [group for group in found if group]


def stated(tree: SourceFiles) -> Stated:
    """The content of obj.data or of the only file of that kind; empty where it does not consist of keys and values."""
    found = [path for path in tree.at_root if suffix(path) == ".data"]
    found = [path for path in found if path.lower() == "obj.data"] or found
    if len(found) != 1:
        return Stated()
    try:
        lines = reading.lines(tree, found[0], reading.MAX_SETTINGS)
    except RefusedError:
        return Stated()
    pairs = [(key.strip().lower(), value.strip()) for _, line in lines for key, _, value in [line.partition("=")]]
    texts = naming.Names([path for path in tree.files if suffix(path) in {".txt", ".names", ".list"}])
    names: str | None = None
    splits: dict[str, str] = {}
    lost: list[str] = []
    for key, value in pairs:
        if not value or (key != "names" and split_of(key) is None):
            continue
        alike = texts.alike(value)
        if len(alike) != 1:
            lost.append(key)
        elif key == "names":
            names = alike[0]
        else:
            splits[key] = alike[0]
    return Stated(found[0], names, splits, tuple(lost))


def of(tree: SourceFiles, path: str) -> list[str]:
    """The names in a file in order, for comparison; empty if it cannot be read."""
    with suppress(RefusedError):
        lines = reading.lines(tree, path, reading.MAX_SETTINGS)
        names = [""] * (lines[-1][0] if lines else 0)
        for number, line in lines:
            names[number - 1] = line.strip()
        return names
    return []


def require_same(tree: SourceFiles, group: Sequence[str]) -> None:
    """Refuse files of the same precedence that number the classes differently.

    Raises:
        RefusedError: FORMAT_INVALID.
    """
    first = of(tree, group[0])
    others = [path for path in group[1:] if of(tree, path) != first]
    if others:
        raise invalid(
            f"{format_names([group[0], *others])} name the classes differently, or in another order, and none takes precedence: "
            f"let {AT_ROOT} at the root have the names by which all labels are numbered"
        )


def deeper(tree: SourceFiles) -> str:
    """A hint about settings in a subfolder of the source."""
    paths = [
        path for path in map(PurePosixPath, tree.files) if path.name in {"data.yaml", "dataset.yaml", "classes.txt"}
    ]
    found = [str(path) for path in paths if naming.folded(path.parent.name) != "labels"]
    return f" at the root, but {format_names(found)}: let {tree.named_by} name the folder of one" if found else ""


def _beside_labels(tree: SourceFiles) -> list[str]:
    """classes.txt in labels/, also in that of a split, unless it is the label file of an image of that name."""
    found = []
    for path in tree.files:
        *folders, name = path.split("/")
        above = [naming.folded(part) for part in folders] if naming.folded(name) == AT_ROOT else []
        if "labels" in above and all(part == "labels" or split_of(part) is not None for part in above):
            found.append(path)
    if not found:
        return []
    labels = {pairing.label_path(path) for path in tree.images if naming.folded(PurePosixPath(path).stem) == "classes"}
    candidates = [path for path in found[:_MOST] if path not in labels]
    return [path for path in candidates if not any(pairing.is_row(name) for name in of(tree, path)[:1])]
