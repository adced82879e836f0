"""``pelagos dataset diff``: the differences between two versions of the same Dataset, or of two."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from pelagos.api.kinds import DATASET
from pelagos.cli import access, data_plane, installed, outputs
from pelagos.cli.data_plane import DataPlaneError
from pelagos.cli.outputs import Output
from pelagos_contract.text import shown

_PROGRAM = "pelagos_pipelines.preparation.comparing"
_DIGEST = re.compile(r"(?:sha256:)?[0-9a-f]{1,64}")
_SHORT = 12
_NAMED = 10
"""Most names of each list in a table; JSON has all."""
_LISTS = (
    ("images", "added", "added image"),
    ("images", "removed", "removed image"),
    ("images", "replaced", "other pixels"),
    ("images", "renamed", "other name"),
    ("images", "moved", "other split"),
    ("annotations", "images", "other annotations"),
    ("excluded", "added", "left out now"),
    ("excluded", "removed", "left out no more"),
    ("excluded", "changed", "left out otherwise"),
)
_MARKS = ("added", "removed", "moved", "relabelled", "described")


@dataclass(frozen=True)
class _Meant:
    """A version that the user named."""

    dataset: str
    uri: str


def diff(
    first: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="NAME of a Dataset, NAME@DIGEST or sha256:DIGEST; the beginning of a digest is enough. Without B: the "
            "version before its newest one.",
        ),
    ],
    second: Annotated[
        str,
        typer.Argument(
            metavar="[B]", help="The same for the other version. Default: the newest version of A's Dataset."
        ),
    ] = "",
    picture: Annotated[
        Path | None, typer.Option(help="PNG file in which the differences are drawn, at most 12 images of each kind.")
    ] = None,
    namespace: access.Namespace = "",
    context: access.Context = "",
    output: outputs.Option = Output.TABLE,
) -> None:
    """Show what differs between two versions: images, splits, annotations, classes, recipe, and what was left out.

    A table names the first files of each list; JSON and YAML have all. With --picture they are drawn, too.

    Versions on S3-compatible storage are read with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, PELAGOS_S3_ENDPOINT and
    PELAGOS_S3_REGION. The API server is that of KUBECONFIG, or the embedded one.

    Exit codes: 0 when both could be read, whether they differ or not; 1 when not; JSON and YAML then give the reason as "error".
    """
    settings = installed.settings()
    at = access.chosen(settings, context)
    namespace = access.namespace_of(at, namespace)
    try:
        target = _target(picture)
        was, now = _meant(access.listed(at, DATASET, namespace), namespace, first, second)
        found = data_plane.run(settings, _PROGRAM, was.uri, now.uri, *target, versions=(was.uri, now.uri))
    except (access.AskError, DataPlaneError) as error:
        raise outputs.failed(error, output, {}) from error
    for side, meant in (("from", was), ("to", now)):
        found[side] = {"dataset": meant.dataset, **found[side]}
    if output is not Output.TABLE:
        outputs.write(found, output)
    else:
        _print(found)
    if picture is not None:
        installed.progress_console().print(Text(f"What differs is drawn in {picture}"), soft_wrap=True)


def _target(picture: Path | None) -> tuple[Path, ...]:
    if picture is None:
        return ()
    if picture.suffix.lower() != ".png":
        raise DataPlaneError(f"--picture {picture}: the name must end in .png")
    if not picture.absolute().parent.is_dir():
        raise DataPlaneError(f"--picture {picture}: the folder {picture.absolute().parent} does not exist")
    return (picture.absolute(),)


# --- which versions


def _meant(datasets: Mapping[str, Mapping[str, Any]], namespace: str, first: str, second: str) -> tuple[_Meant, _Meant]:
    """The two versions that the user named, or the defaults. Raises DataPlaneError."""
    if second:
        return _one(datasets, namespace, first), _one(datasets, namespace, second)
    if "@" in first or first.startswith("sha256:"):
        one = _one(datasets, namespace, first)
        return one, _one(datasets, namespace, one.dataset.partition("/")[2])
    newest = _one(datasets, namespace, first)
    before = [uri for uri in data_plane.uris(_status(datasets, namespace, first)).values() if uri != newest.uri]
    if not before:
        raise DataPlaneError(f"Dataset {namespace}/{first} has one version; name another Dataset to compare it with")
    return _Meant(newest.dataset, before[0]), newest


def _one(datasets: Mapping[str, Mapping[str, Any]], namespace: str, named: str) -> _Meant:
    """The version that NAME, NAME@DIGEST or sha256:DIGEST refers to."""
    name, _, digest = named.partition("@")
    if named.startswith("sha256:"):
        name, digest = "", named
    if digest and not _DIGEST.fullmatch(digest):
        raise DataPlaneError(f"{named}: {digest} is not the beginning of a sha256 in lower case")
    if name:
        status = _status(datasets, namespace, name)
        return _Meant(f"{namespace}/{name}", data_plane.version_uri(f"{namespace}/{name}", status, digest, named))
    wanted = digest.removeprefix("sha256:")
    found = {
        known: _Meant(f"{namespace}/{dataset}", uri)
        for dataset, body in sorted(datasets.items(), reverse=True)
        for known, uri in data_plane.uris(body.get("status") or {}).items()
        if known.startswith(wanted)
    }
    if len(found) != 1:
        raise DataPlaneError(
            f"{named}: {len(found)} versions in the namespace {namespace} begin with that; name the Dataset"
        )
    return next(iter(found.values()))


def _status(datasets: Mapping[str, Mapping[str, Any]], namespace: str, name: str) -> Mapping[str, Any]:
    if name not in datasets:
        there = f"there are {', '.join(sorted(datasets))}" if datasets else "there is none in this namespace"
        raise DataPlaneError(f"Dataset {namespace}/{name} not found; {there}")
    found: Mapping[str, Any] = datasets[name].get("status") or {}
    return found


# --- in words


def _print(found: Mapping[str, Any]) -> None:
    console = installed.result_console()
    for side in ("from", "to"):
        one = found[side]
        told = f"{one['version']}  {one['images']} images, {one['annotations']} annotations, {one['task']}"
        console.print(Text(f"{side:<6}{one['dataset']}  {told}"), soft_wrap=True)
    if found["same"]:
        console.print(Text("They are the same version."))
        return
    table = Table("WHAT", "FROM", "TO", "CHANGE", box=None, pad_edge=False, header_style="bold")
    for row in _rows(found):
        table.add_row(*_cells(row))
    console.print(table)
    lines = list(_names(found))
    if lines:
        names = Table("LIST", "FILE", "WHAT", box=None, pad_edge=False, header_style="bold")
        for line in lines:
            names.add_row(*_cells(line))
        console.print()
        console.print(names)


def _cells(row: Iterable[str]) -> Iterator[Text]:
    """Cells made safe to display, because names of files, classes and folders are not trusted."""
    return (Text(shown(cell)) for cell in row)


def _rows(found: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """Yield rows of the table: subject, old value, new value, change."""
    images, annotations, was, now = found["images"], found["annotations"], found["from"], found["to"]
    if was["task"] != now["task"]:
        yield "task", was["task"], now["task"], "changed"
    changes = [(len(images[name]), name) for name in ("added", "removed", "replaced", "renamed")]
    yield "images", str(was["images"]), str(now["images"]), _counted(changes)
    moved = Counter(f"{each['from']} → {each['to']}" for each in images["moved"])
    for split, counts in found["splits"].items():
        some = [(count, course) for course, count in sorted(moved.items()) if course.startswith(f"{split} ")]
        yield f"  {split}", str(counts["from"]), str(counts["to"]), _counted(some)
    if images["regrouped"]:
        yield "groups", "", "", f"{images['regrouped']} images in another group"
    if images.get("recaptured"):
        yield "capture", "", "", f"{images['recaptured']} images with another time, place or depth"
    marks = [(annotations[name], name) for name in _MARKS]
    marks += [(annotations["withAddedImages"], "with added images"), (annotations["withRemovedImages"], "with removed")]
    yield "annotations", str(was["annotations"]), str(now["annotations"]), _counted(marks)
    yield from _class_rows(found["classes"])
    for each in found["recipe"]:
        yield f"recipe {each['field']}", _short(each["from"]), _short(each["to"]), "changed"
    before, after = found["excluded"]["from"], found["excluded"]["to"]
    for reason in sorted({*before, *after}):
        counts = before.get(reason, 0), after.get(reason, 0)
        yield f"left out, {reason}", *map(str, counts), _signed(counts[1] - counts[0])


def _class_rows(classes: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    for each in classes["counts"]:
        counts = each["annotations"]
        state = (
            "added"
            if each["name"] in classes["added"]
            else "removed"
            if each["name"] in classes["removed"]
            else _signed(counts["to"] - counts["from"])
        )
        if state:
            yield f"  {each['name']}", str(counts["from"]), str(counts["to"]), state
    if classes["renumbered"]:
        yield "class ids", "", "", "the order of the classes changed"


def _names(found: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """Yield rows for the first files of each list: list, file, detail."""
    for part, name, words in _LISTS:
        entries = found[part][name]
        for entry in entries[:_NAMED]:
            yield words, str(entry["path"]), _counted(_facts(entry))
        if len(entries) > _NAMED:
            yield words, f"... and {len(entries) - _NAMED} more", "-o json has all"


def _facts(entry: Mapping[str, Any]) -> Iterable[tuple[object, str]]:
    if "to" in entry:
        return [(entry["from"], f"→ {entry['to']}")]
    if "was" in entry:
        return [("was", str(entry["was"]))]
    facts: list[tuple[object, str]] = [(entry[name], name) for name in _MARKS if entry.get(name)]
    if "split" in entry:
        facts = [(f"{entry['split']},", f"{entry['annotations']} annotations")]
    facts += [("left out,", entry["excluded"])] if "excluded" in entry else []
    return facts + ([(entry["reason"], "")] if "reason" in entry else [])


def _counted(some: Iterable[tuple[object, str]]) -> str:
    return ", ".join(f"{count} {word}".strip() for count, word in some if count)


def _signed(number: int) -> str:
    return f"{number:+d}" if number else ""


def _short(value: Any) -> str:
    """A recipe's value for a cell, shortened if long."""
    if value is None:
        return "not set"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:_SHORT] if re.fullmatch(r"[0-9a-f]{64}", text) else text if len(text) <= 60 else f"{text[:57]}..."
