"""Checks the contents of users' files: names, paths, sizes. Every reader passes names and paths through here.

Messages appear in status, which more people can read than the files. They name a file, line or field and its fault, and never
repeat text of the file. They may contain numbers, file names, and class names that have passed these checks.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

import orjson

from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations import naming
from pelagos_pipelines.sandbox import ceilings

MAX_CLASS_NAME = 200
MAX_NAMED = 5
MAX_CLASSES = 10_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
_DRIVE = re.compile(r"[A-Za-z]:")
_PLAIN_PATH = re.compile(r"(?:[\w-][\w .()+=@,-]*/)*[\w-][\w .()+=@,-]*", re.ASCII)
"""A path that needs no further check, as most do not."""
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols that are invisible."""
_ROBOFLOW = re.compile(r"^(?P<original>.+)\.rf\.[0-9A-Za-z]{8,64}\.[A-Za-z]+$")


def format_names(names: Iterable[str], limit: int = MAX_NAMED, *, of: int | None = None) -> str:
    """At most ``limit`` names, and how many more there are; ``of`` is the total if only the first names are given."""
    listed = list(names)
    shown = ", ".join(printable(name) for name in listed[:limit])
    more = (len(listed) if of is None else of) - min(len(listed), limit)
    return shown if more <= 0 else f"{shown} and {more} more"


def format_words(shown: Sequence[str], count: int) -> str:
    """Like ``format_names``, for the first ``shown`` of ``count`` texts of our own, each of which may contain several names."""
    more = count - len(shown)
    return ", ".join(shown) if more <= 0 else f"{', '.join(shown)} and {more} more"


def printable(name: str) -> str:
    """The name, shortened, and escaped if a terminal or a Kubernetes condition could not show it."""
    short = name if len(name) <= MAX_CLASS_NAME else f"{name[:MAX_CLASS_NAME]}…"
    return short if short.isprintable() and is_encodable(short) else ascii(short)


def class_name(value: object, where: str) -> str:
    """A class name that is valid in files, tables and metric names, in NFC, so that names that look the same are the same.

    Raises:
        RefusedError: FORMAT_INVALID for anything but a non-empty text of at most 200 characters on one line.
    """
    if isinstance(value, str):
        name = unicodedata.normalize("NFC", value.strip()) if is_encodable(value) else ""
        if is_seen(name) and len(name) <= MAX_CLASS_NAME and not _CONTROL.search(name):
            return name
    raise invalid(
        f"{where} is not a class name, which is text of 1 to {MAX_CLASS_NAME} characters on one line, not all of them invisible: "
        "rename the class"
    )


def is_seen(text: str) -> bool:
    """Whether the text has any visible character: not only spaces, combining marks and invisible letters."""
    unseen = {"Cc", "Cf", "Cs", "Mn", "Mc", "Me", "Zs", "Zl", "Zp"}
    return any(unicodedata.category(one) not in unseen and one not in _BLANK for one in text)


def is_folder_name(name: str) -> bool:
    """Whether a name is valid for a single folder."""
    return "/" not in name and "\0" not in name and name not in {"", ".", ".."}


def is_encodable(text: str) -> bool:
    """Whether a text can be encoded as UTF-8: it has no lone surrogates, also not from file names that are not UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def is_composed(name: str) -> bool:
    """Whether a name is in NFC, the form of stored class names."""
    return unicodedata.is_normalized("NFC", name)


def recomposed(names: Iterable[str]) -> list[str]:
    """Warnings about class names that were not in NFC."""
    listed = sorted(set(names))
    if not listed:
        return []
    return [
        f"{len(listed)} class names are not in Unicode's composed form (NFC), and are read as such: {format_names(listed)}"
    ]


def look(name: str) -> str:
    """A key that is equal for names that a person can hardly distinguish: they differ in case, spaces or invisible characters."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join("".join(one for one in folded if unicodedata.category(one) != "Cf").split())


def require_distinct(names: Mapping[str, str], where: str) -> None:
    """Refuse used classes with the same name; ``names`` maps the place of a class to its name.

    Unused classes may share a name with others: Roboflow's category 0 is named after the project.
    Raises:
        RefusedError: FORMAT_INVALID.
    """
    places: dict[str, list[str]] = {}
    for place, name in names.items():
        places.setdefault(name, []).append(place)
    same = [f"{name} ({', '.join(found[:MAX_NAMED])})" for name, found in places.items() if len(found) > 1]
    if same:
        raise invalid(
            f"{where} has {len(same)} class names that stand for more than one class: {format_names(same)}; annotations use them "
            "all: give each class its own name, or merge them"
        )


def relative(value: str, where: str) -> PurePosixPath:
    """A path that stays below the folder it is relative to; backslashes count as separators.

    Raises:
        RefusedError: FORMAT_INVALID for an absolute path, a drive, ``..``, or control characters.
    """
    return PurePosixPath(below(value, where))


def below(value: str, where: str) -> str:
    """Like ``relative``, but as text. Raises as ``relative`` does."""
    if _PLAIN_PATH.fullmatch(value):
        return value
    path = value.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in {"", "."}]
    escapes = path.startswith("/") or ".." in parts or _DRIVE.match(value)
    if escapes or not parts or _CONTROL.search(value) or not (value.isascii() or is_encodable(value)):
        raise invalid(
            f"{where} is not a path below the source's folder without '..' and control characters: write the path relative to "
            "the annotation file"
        )
    return "/".join(parts)


def original_of(path: str) -> str | None:
    """The original of one of Roboflow's augmented copies, whose copies must be in one split; None for other files."""
    if ".rf." not in path:
        return None
    found = _ROBOFLOW.match(PurePosixPath(path).name)
    return found["original"] if found else None


def encoded(where: str, document: object) -> bytes:
    """The document as JSON.

    Raises:
        RefusedError: FORMAT_INVALID when it contains text that is not Unicode.
    """
    try:
        content: bytes = orjson.dumps(document)
    except (orjson.JSONEncodeError, RecursionError) as error:  # for example a lone surrogate
        raise invalid(f"{where} contains text that is not Unicode; save it as UTF-8") from error
    return content


def matched(renamed: Sequence[str], what: str) -> list[str]:
    """Warnings about names that were matched to files inexactly (see naming); ``what`` describes them."""
    if not renamed:
        return []
    return [f"{len(renamed)} {what} in {naming.DIFFERENCES}; matched were {format_names(renamed)}"]


def unused_classes(classes: Iterable[str]) -> list[str]:
    """Warnings about declared classes without annotations."""
    listed = list(classes)
    return [f"classes that no annotation uses are left out: {format_names(listed)}"] if listed else []


def torn(images: Sequence[str]) -> str:
    """The warning about images in folders of several splits, such as ``train/test``."""
    return f"{len(images)} images lie in folders named like more than one split, and count as in none: {format_names(images)}"


def missing_images(orphans: Sequence[str], count: int | None = None, looked: Iterable[str] = ()) -> RefusedError:
    """The refusal of annotations without an image; ``count`` if ``orphans`` are only the first, ``looked`` the searched
    folders."""
    many = len(orphans) if count is None else count
    places = format_names(looked, 2 * MAX_NAMED)
    where = (
        f"; looked for in {places}, and elsewhere for names that differ only in {naming.DIFFERENCES}" if places else ""
    )
    return RefusedError(
        Reason.LABEL_WITHOUT_IMAGE,
        f"{many} label files or annotation entries have no image: {format_words(orphans[:MAX_NAMED], many)}{where};"
        " add the images, correct the names, or remove the labels",
        "source",
    )


def with_nearest(place: str, meant: Sequence[str], nearest: Sequence[str]) -> str:
    """The place of an entry without an image, with the images that it may mean, or the most similar names."""
    if meant:
        return f"{place} (may be {' or '.join(map(printable, meant[:MAX_NAMED]))})"
    return f"{place} (nearest is {' or '.join(map(printable, nearest))})" if nearest else place


def too_large(path: str, size: int, limit: int, raise_it: str = "") -> RefusedError:
    """The refusal of a file that is too large to read."""
    hint = f"{raise_it}; split the file, or have the ceiling raised" if raise_it else "divide it"
    return invalid(f"{printable(path)} has {size} bytes; at most {limit} are read: {hint}")


def too_many(where: str, limit: int) -> RefusedError:
    """The refusal of more annotations than memory allows, here and in all readers of the version."""
    hint = f"{ceilings.raise_it('annotations')}; split the source, or have the ceiling raised"
    return invalid(f"{where} brings the source to more than {limit} annotations or images: {hint}")


def closed(paths: Sequence[str]) -> RefusedError:
    """The refusal of files and folders that a step has no permission to read."""
    return RefusedError(
        Reason.SOURCE_NOT_READABLE,
        f"{len(paths)} files or folders may not be read by the account that steps run under: {format_names(paths)};"
        " give it the right to read them (chmod -R a+rX), or move them out of the source",
        "source",
    )


def unannotated(layout: str, found: Sequence[str] = (), hint: str = "") -> RefusedError:
    """The refusal of images without any annotation; ``found`` says what there was instead."""
    there = f" ({'; '.join(found)})" if found else ""
    return RefusedError(
        Reason.TASK_MISMATCH,
        f"no image has a bounding box{there}, so there is nothing to learn for Detection; expected is {layout}: export the boxes"
        f" too, {f'{hint}, ' if hint else ''}or set task to what the source is annotated for",
        "task",
    )


def unlabelled(images: Sequence[str], looked: Mapping[str, str], predicted: Sequence[str] = ()) -> RefusedError:
    """The refusal of images without any label file; ``looked`` has the expected paths for the first ones.

    ``predicted`` are label files that were skipped as predictions.
    """
    passed = f" (but not at predictions of ultralytics, such as {format_names(predicted, 1)})" if predicted else ""
    places = ", ".join(f"{printable(label)} for {printable(image)}" for image, label in looked.items())
    return RefusedError(
        Reason.TASK_MISMATCH,
        f"none of {len(images)} images has a label file; looked for {places}, and elsewhere for names that differ only in "
        f"{naming.DIFFERENCES}{passed}: add the label files, or set task to what the source is annotated for",
        "task",
    )


def unknown_categories(where: str, many: int, places: Sequence[str], declared: int) -> RefusedError:
    """The refusal of ``many`` annotations with undeclared categories, the first of them at ``places``."""
    return RefusedError(
        Reason.UNKNOWN_CLASS,
        f"{where} has {many} annotations with undeclared categories ({format_names(places, of=many)}); declared are {declared}: "
        "declare the others, or remove the annotations",
        "source",
    )


def invalid(message: str) -> RefusedError:
    """The refusal of files that contradict their format."""
    return RefusedError(Reason.FORMAT_INVALID, message, "format")
