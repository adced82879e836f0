"""By what the splits of a version leak: images of one that belong together with images of another, counted and in pairs.

Called by the step prepare after the splits are made; nothing is decided here. Duplicates and near duplicates are those of
duplicates.py, by the distance of looks (alike.py) and not by the bits of a hash. Names tell of frames taken one after another:
``frame_000123.jpg`` and ``frame_000124.jpg``. Numbers in names may as well mean nothing, so that it is measured whether such
neighbours look more alike than other images do. Where it is known when images were taken (capture), so are those of one minute.
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

from pelagos_contract.dataset import SPLITS, Split
from pelagos_contract.judgement import HINTS, Leakage, Leaked, Link
from pelagos_pipelines.annotations.model import ImageRecord, split_of
from pelagos_pipelines.annotations.untrusted_input import printable

WITHIN = 60
"""Seconds within which images of one site are taken together."""
SERIES = 10
"""Images of a series from which on its usual step is known; in shorter ones only numbers one apart are neighbours."""
COMPARED = 5_000
"""Pairs of neighbours that are compared with as many others."""
FEWEST = 20
"""Pairs of neighbours below which nothing is said of how alike they are."""
FRAMES = 0.8
"""How often neighbours must look more alike than others to be called frames of one recording."""
MEASURED = 20_000
"""Pairs of one link that are kept, and put in order, the first ones; there may be millions."""
SEED = 14
_PLACES: Mapping[Split, int] = {split: place for place, split in enumerate(SPLITS)}
_NUMBER = re.compile(r"\d{1,18}(?=\D*$)")


@dataclass(frozen=True, slots=True)
class Pair:
    """An image, and one of a split before its own that it belongs together with, by their paths; ``splits`` are those of both.

    ``distance`` is that of their looks, in the unit of cleaning.duplicates.maxDistance; None where one is plain. ``seconds`` are
    between them, where that is what links them.
    """

    path: str
    other: str
    splits: tuple[Split, Split]
    distance: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Found:
    """``pairs`` of each link, the worst first: most images of a group, or most alike."""

    figures: Leakage
    pairs: Mapping[Link, Sequence[Pair]]
    warnings: tuple[str, ...] = ()


@dataclass
class _Tally:
    """What one link holds together."""

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
    """What leaks between the splits of ``images``.

    Args:
        images: of the version, each with its split.
        repeats: by path, the first image with the same pixels, or what is treated so.
        alike: by path, earlier images that one looks like, at most alike.EARLIER of them.
        looks: of images by path, as looks.py makes them.
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
    """One pair for each group: an image of the last split in which it stands, and one of the first."""
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
    """Pairs in two splits, whichever of them comes first. What was dropped has no split."""
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
    """Images of two splits that were taken within WITHIN seconds, at one site, in one deployment, by one platform."""
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
    """Images whose names differ in a running number alone, and no farther apart than usual in their series."""
    # A tile has the name of no file: the first of an image stands for it.
    paths = dict[str, str]()
    for image in images:
        if image.split is not None:
            paths.setdefault(image.file, image.path)
    series: dict[tuple[str, str, str], list[tuple[int, str]]] = defaultdict(list)
    for file, path in paths.items():
        folder, _, name = file.rpartition("/")
        stem, dot, suffix = name.rpartition(".") if "." in name else (name, "", "")
        if (number := _NUMBER.search(stem)) is not None:
            # Folders that are splits are taken out: what stands in two of them may be one series.
            above = "/".join(part for part in folder.split("/") if split_of(part) is None)
            key = above, stem[: number.start()], stem[number.end() :] + dot + suffix
            series[key].append((int(number[0]), path))
    for entries in series.values():
        entries.sort()
        steps = [after[0] - before[0] for before, after in itertools.pairwise(entries)]
        if not steps or not min(steps):  # a number that is there twice: each split counts from the start
            continue
        usual = statistics.median_low(steps) if len(entries) >= SERIES else 1
        for step, before, after in zip(steps, entries, entries[1:], strict=False):
            if step <= usual:
                yield before[1], after[1]


def _how_alike(neighbors: Sequence[tuple[str, str]], looks: Mapping[str, bytes | None]) -> float | None:
    """How often two neighbours look more alike than two images by chance (the statistic of Mann and Whitney 1947, as a share)."""
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
