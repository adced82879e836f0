"""Measures leakage between the splits of a version: images of one that belong together with images of another.

Called by the step prepare after splitting; nothing is decided here. Duplicates and near duplicates are those of duplicates.py, by
the distance of looks (alike.py) and not by the bits of a hash. Names can reveal consecutive frames: ``frame_000123.jpg`` and
``frame_000124.jpg``. But numbers in names may mean nothing, so it is measured whether such neighbours look more alike than other
images. If it is known when images were taken (capture), those of one minute at one site are linked, too.
"""

from __future__ import annotations

import itertools
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pelagos_contract.judgement import HINTS, Leakage, Leaked, Link
from pelagos_contract.splits import SPLITS, Split
from pelagos_pipelines.annotations.model import ImageRecord, split_of
from pelagos_pipelines.annotations.untrusted_input import printable

WITHIN = 60
"""Seconds within which images of one site count as taken together."""
SERIES = 10
"""Images from which on a series' usual step is known; in shorter ones only numbers one apart are neighbours."""
COMPARED = 5_000
"""The most pairs of neighbours that are compared with as many random pairs."""
FEWEST = 20
"""Pairs of neighbours below which their similarity is not reported."""
FRAMES = 0.8
"""How often neighbours must look more alike than random pairs to be called frames of one recording."""
MEASURED = 20_000
"""The most pairs of one link that are kept and sorted, the first ones; there may be millions."""
SEED = 14
_PLACES: Mapping[Split, int] = {split: place for place, split in enumerate(SPLITS)}
_NUMBER = re.compile(r"\d{1,18}(?=\D*$)")


@dataclass(frozen=True, slots=True)
class Pair:
    """Paths of an image and of one in an earlier split that it belongs together with; ``splits`` has both splits.

    ``distance`` is that of their looks, in the unit of cleaning.duplicates.maxDistance; None if one is plain. ``seconds`` is the
    time between them, if that is the link.
    """

    path: str
    other: str
    splits: tuple[Split, Split]
    distance: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Found:
    """Figures, and ``pairs`` of each link, the worst first: the largest groups, or the most similar images."""

    figures: Leakage
    pairs: Mapping[Link, Sequence[Pair]]
    warnings: tuple[str, ...] = ()


@dataclass
class _Tally:
    """The images, groups and pairs that one link connects; images and groups by the two splits."""

    images: dict[tuple[Split, Split], set[str]] = field(default_factory=lambda: defaultdict(set))
    groups: dict[tuple[Split, Split], int] = field(default_factory=lambda: defaultdict(int))
    pairs: list[Pair] = field(default_factory=list)

    @property
    def all(self) -> set[str]:
        return set().union(*self.images.values())


def measure(
    images: Sequence[ImageRecord],
    repeats: Mapping[str, str],
    alike: Mapping[str, Sequence[str]],
    looks: Mapping[str, bytes | None],
) -> Found:
    """The leakage between the splits of ``images``.

    Args:
        images: the version's images, each with its split.
        repeats: by path, the first image that this one repeats.
        alike: by path, the earlier images that this one looks like, at most alike.EARLIER of them.
        looks: by path, the looks of images from looks.py.
    """
    splits = {image.path: image.split for image in images if image.split is not None}
    neighbors = list(_neighbors(images))
    tallies = {
        Link.SHARED_GROUP: _by_group(images),
        Link.DUPLICATE: _by_pairs(repeats.items(), splits),
        Link.NEAR_DUPLICATE: _by_pairs(((path, one) for path, others in alike.items() for one in others), splits),
        Link.CLOSE_IN_TIME: _by_time(images),
        Link.ADJACENT_NAME: _by_pairs(neighbors, splits),
    }
    more_alike = _how_alike(neighbors, looks)
    leaked = set().union(*(tally.all for link, tally in tallies.items() if link not in HINTS))
    figures = Leakage(
        evaluated=sum(split != "train" for split in splits.values()),
        leaked=len(leaked),
        shared_groups=len({pair.path for pair in tallies[Link.SHARED_GROUP].pairs}),
        found=[
            Leaked(kind=link.value, split=pair[0], other=pair[1], images=len(paths), groups=tally.groups.get(pair))
            for link, tally in tallies.items()
            for pair, paths in sorted(tally.images.items(), key=lambda entry: [_PLACES[split] for split in entry[0]])
        ],
        neighbors=None if more_alike is None else f"{more_alike:.2f}",
    )
    pairs = {link: _worst(link, tally, looks) for link, tally in tallies.items() if tally.pairs}
    told = (*_of_time(tallies[Link.CLOSE_IN_TIME]), *_warnings(tallies[Link.ADJACENT_NAME], more_alike))
    return Found(figures, pairs, told)


def _by_group(images: Sequence[ImageRecord]) -> _Tally:
    """Groups in several splits, with one pair for each: an image of the group's last split and one of its first."""
    members: dict[str, dict[Split, list[str]]] = defaultdict(lambda: defaultdict(list))
    for image in images:
        if image.group is not None and image.split is not None:
            members[image.group][image.split].append(image.path)
    tally, sizes = _Tally(), {}
    for torn in (group for group in members.values() if len(group) > 1):
        inside = sorted(torn, key=_PLACES.__getitem__)
        for place, split in enumerate(inside):
            for other in inside[:place]:
                tally.images[split, other].update(torn[split])
                tally.groups[split, other] += 1
        pair = Pair(min(torn[inside[-1]]), min(torn[inside[0]]), (inside[-1], inside[0]))
        sizes[pair] = sum(map(len, torn.values()))
        tally.pairs.append(pair)
    tally.pairs.sort(key=lambda pair: (-sizes[pair], pair.path))
    return tally


def _by_pairs(linked: Iterable[tuple[str, str]], splits: Mapping[str, Split]) -> _Tally:
    """Linked pairs in two splits, in either order. Images that were dropped have no split, and are ignored."""
    tally = _Tally()
    for pair in linked:
        if pair[0] not in splits or pair[1] not in splits or splits[pair[0]] == splits[pair[1]]:
            continue
        other, path = sorted(pair, key=lambda one: _PLACES[splits[one]])
        both = splits[path], splits[other]
        tally.images[both].add(path)
        if len(tally.pairs) < MEASURED:
            tally.pairs.append(Pair(path, other, both))
    return tally


def _worst(link: Link, tally: _Tally, looks: Mapping[str, bytes | None]) -> Sequence[Pair]:
    if link in {Link.SHARED_GROUP, Link.CLOSE_IN_TIME}:
        return tally.pairs
    distances = _distances([(pair.path, pair.other) for pair in tally.pairs], looks)
    measured = [replace(pair, distance=distance) for pair, distance in zip(tally.pairs, distances, strict=True)]
    far = float("inf")
    return sorted(measured, key=lambda pair: (far if pair.distance is None else pair.distance, pair.path, pair.other))


def _distances(pairs: Sequence[tuple[str, str]], looks: Mapping[str, bytes | None]) -> list[float | None]:
    from pelagos_pipelines.preparation import alike

    known = [
        (one, other) for path, other_path in pairs if (one := looks.get(path)) and (other := looks.get(other_path))
    ]
    found = iter(alike.distances([one for one, _ in known], [other for _, other in known]).tolist())
    return [next(found) if looks.get(path) and looks.get(other) else None for path, other in pairs]


# --- times and names


def _by_time(images: Sequence[ImageRecord]) -> _Tally:
    """Images of two splits that were taken within WITHIN seconds by one platform in one deployment at one site."""
    taken: dict[Any, dict[Split, list[tuple[float, str]]]] = defaultdict(lambda: defaultdict(list))
    for image in images:
        capture = image.capture
        if capture is not None and capture.has_clock and capture.moments is not None and image.split is not None:
            place = capture.site, capture.deployment, capture.platform
            taken[place][image.split].append((capture.moments[0].timestamp(), image.path))
    tally = _Tally()
    for together in taken.values():
        for split, other in itertools.combinations(sorted(together, key=lambda one: -_PLACES[one]), 2):
            known = sorted(together[other])
            times = np.array([time for time, _ in known])
            for time, path in together[split]:
                at = int(np.searchsorted(times, time))
                apart, near = min((abs(times[one] - time), one) for one in (at - 1, at) if 0 <= one < len(times))
                if apart <= WITHIN:
                    tally.images[split, other].add(path)
                    tally.pairs.append(Pair(path, known[near][1], (split, other), seconds=float(apart)))
    tally.pairs.sort(key=lambda pair: (pair.seconds or 0.0, pair.path, pair.other))
    return tally


def _of_time(close: _Tally) -> Iterator[str]:
    if not close.pairs:
        return
    one = close.pairs[0]
    yield (
        f"{len(close.all)} images of validation and test were taken within {WITHIN} s of one of another split, at one site"
        f" ({printable(one.path)} and {printable(one.other)}, {one.seconds:g} s apart); test metrics may be too good: set"
        " split.policy to GroupedTemporal, with a gap"
    )


def _neighbors(images: Sequence[ImageRecord]) -> Iterator[tuple[str, str]]:
    """Pairs of images whose names differ only in a running number, by no more than the usual step of their series."""
    # Tiles have no file names of their own: the first tile stands for its image.
    paths = dict[str, str]()
    for image in images:
        if image.split is not None:
            paths.setdefault(image.file, image.path)
    series: dict[tuple[str, str, str], list[tuple[int, str]]] = defaultdict(list)
    for file, path in paths.items():
        folder, _, name = file.rpartition("/")
        stem, dot, suffix = name.rpartition(".") if "." in name else (name, "", "")
        if (number := _NUMBER.search(stem)) is not None:
            # Folders of splits are removed from the path, because a series may be divided between them.
            above = "/".join(part for part in folder.split("/") if split_of(part) is None)
            key = above, stem[: number.start()], stem[number.end() :] + dot + suffix
            series[key].append((int(number[0]), path))
    for entries in series.values():
        entries.sort()
        steps = [after[0] - before[0] for before, after in itertools.pairwise(entries)]
        if not steps or not min(steps):  # a repeated number means that each split counts from the start
            continue
        usual = statistics.median_low(steps) if len(entries) >= SERIES else 1
        for step, before, after in zip(steps, entries, entries[1:], strict=False):
            if step <= usual:
                yield before[1], after[1]


def _how_alike(neighbors: Sequence[tuple[str, str]], looks: Mapping[str, bytes | None]) -> float | None:
    """How often neighbours look more alike than random pairs: Mann and Whitney's statistic (1947) as a fraction, or None."""
    random = np.random.default_rng(SEED)
    paths = sorted(path for path, look in looks.items() if look)
    chosen = [pair for pair in neighbors if looks.get(pair[0]) and looks.get(pair[1])]
    if len(chosen) < FEWEST:
        return None
    if len(chosen) > COMPARED:
        chosen = [chosen[place] for place in np.sort(random.choice(len(chosen), COMPARED, replace=False)).tolist()]
    drawn = random.integers(0, len(paths), (len(chosen), 2)).tolist()
    others = [(paths[one], paths[other]) for one, other in drawn if one != other]
    near, far = (np.sort([one for one in _distances(some, looks) if one is not None]) for some in (chosen, others))
    if not len(far):
        return None
    beyond = len(far) - (np.searchsorted(far, near, "left") + np.searchsorted(far, near, "right")) / 2
    return float(beyond.mean() / len(far))


def _warnings(adjacent: _Tally, more_alike: float | None) -> Iterator[str]:
    if more_alike is None or more_alike < FRAMES or not adjacent.pairs:
        return
    one = adjacent.pairs[0]
    yield (
        f"{len(adjacent.all)} images of validation and test stand next to one of another split in a series of names"
        f" ({printable(one.path)} and {printable(one.other)}), and such neighbours look more alike than others in"
        f" {more_alike:.0%} of comparisons, as frames of a recording do; test metrics may be too good: give the images groups,"
        " and set split.policy to Grouped"
    )
