"""Accounts for every file of a source: in the version, read for annotations, or excluded for a reason. No file goes unmentioned.

The step prepare computes the balance and reports it. versions.py stores the exclusions in excluded.jsonl, one per line.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import orjson

from pelagos_contract.dataset import Excluded, Files
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import RefusedError
from pelagos_contract.measures import shown
from pelagos_pipelines.annotations.model import Exclusion, SourceFiles
from pelagos_pipelines.annotations.untrusted_input import MAX_NAMED, format_names, printable

BESIDE_DATA = frozenset({ExclusionReason.HIDDEN, ExclusionReason.NOT_AN_IMAGE, ExclusionReason.NOT_A_FILE})
"""Reasons that are not part of a version's identity: a page of notes, or a file browser's leavings, do not change the data."""


@dataclass(frozen=True)
class Balance:
    """Every file of the source, exactly once. ``excluded`` is sorted by path; ``pictures`` is the number of images among all."""

    images: Sequence[str]
    annotations: Sequence[str]
    excluded: Sequence[Exclusion]
    pictures: int

    @property
    def files(self) -> Files:
        """The numbers of files."""
        counts = [len(part) for part in (self.images, self.annotations, self.excluded)]
        return Files(found=sum(counts), images=counts[0], annotations=counts[1], excluded=counts[2])

    @property
    def by_reason(self) -> list[Excluded]:
        """Exclusions by reason, each with count and first names."""
        listed: dict[ExclusionReason, list[Exclusion]] = {reason: [] for reason in ExclusionReason}
        for one in self.excluded:
            listed[one.reason].append(one)
        return [_summed(reason, ones) for reason, ones in listed.items() if ones]


def _summed(reason: ExclusionReason, ones: Sequence[Exclusion]) -> Excluded:
    found = sorted(one.measured for one in ones if one.measured is not None)
    first = [printable(one.path) for one in ones[:MAX_NAMED]]
    measured = " to ".join(dict.fromkeys(map(shown, (found[0], found[-1])))) if found else None
    return Excluded(reason=reason, files=len(ones), first=first, measured=measured)


def balance(
    tree: SourceFiles, images: Iterable[str], annotations: Iterable[str], excluded: Iterable[Exclusion]
) -> Balance:
    """The balance of a source. ``excluded`` has the exclusions of the tree and of all stages; all other files are not images.

    Raises:
        ValueError: an image is unaccounted for, or a file is counted twice: a bug of ours.
    """
    used, read = sorted(images), sorted(set(annotations))
    ledger = {one.path: one for one in excluded}
    spoken = {*used, *read, *ledger}
    pictures = set(tree.images)
    silent = [path for path in tree.files if path not in spoken]
    if lost := [path for path in silent if path in pictures]:
        raise ValueError(f"{len(lost)} images are neither in the version nor excluded: {format_names(lost)}")
    ledger |= {path: Exclusion(path, ExclusionReason.NOT_AN_IMAGE) for path in silent}
    if len(used) + len(read) + len(ledger) != len(spoken) + len(silent):
        twice = sorted({*used} & {*read} | ({*used} | {*read}) & ledger.keys())
        raise ValueError(f"{len(twice)} files are counted twice: {format_names(twice)}")
    if strange := sorted({*used, *read} - tree.known):
        raise ValueError(f"{len(strange)} files are not in the source: {format_names(strange)}")
    return Balance(used, read, tuple(ledger[path] for path in sorted(ledger)), len(pictures))


def reminded(refusal: RefusedError, excluded: Iterable[Exclusion]) -> RefusedError:
    """The refusal with a list of earlier exclusions added, which are often its cause."""
    data = [one for one in excluded if one.reason not in BESIDE_DATA]
    if not data:
        return refusal
    counts = Counter(one.reason.value for one in data)
    told = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    failure = refusal.failure
    words = f"{failure.message}. Left out before were {told}: {format_names(one.path for one in data)}"
    return RefusedError(failure.reason, words, failure.field)


def lines(excluded: Iterable[Exclusion]) -> Iterator[bytes]:
    """The content of excluded.jsonl."""
    for one in excluded:
        more = {"repeats": one.repeats, "measured": one.measured}
        told = {name: value for name, value in more.items() if value is not None}
        yield orjson.dumps({"path": one.path, "reason": one.reason.value} | told) + b"\n"


def digest(content: Iterable[bytes]) -> str:
    """The sha256 of those lines of excluded.jsonl that are part of the version's identity.

    Raises:
        ValueError: a line is not a valid line of excluded.jsonl.
    """
    found = hashlib.sha256()
    beside = {reason.value for reason in BESIDE_DATA}
    for line in content:
        entry = orjson.loads(line)
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
            raise ValueError("a line of excluded.jsonl")
        if entry.get("reason") not in beside:
            found.update(line)
    return found.hexdigest()
