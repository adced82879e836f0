"""Assigns whole groups to splits: close to the ratios, every class in its share, and by the seed. Called by splitting.

Several divisions are computed and the best is taken. Each begins with the largest groups, which are dealt out by the seed alone
as far as they fit: otherwise they would always be in train. The others go where their classes are missing most, or to a random
split, and are then moved while that helps. The same seed and content give the same division on every machine.

No split exceeds its share by more than the largest group: a group goes where there is room for all of it, otherwise where there
is most room. But train must show every class: a group that is the only one with a class goes there, and groups are exchanged for
other classes that train lacks.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pelagos_contract.splits import Split

CANDIDATES = 4
PASSES = 4
WORK = 50_000
"""Groups to assign in all candidates together. With more groups there is one candidate: so many groups balance by number."""
DEALT = 3
"""How many of the largest groups are dealt out by the seed alone, each to a split of whose share it fills at most half."""
EXCHANGED = 64
"""Groups of train that are tried in exchange for one that train needs, the smallest first."""
_CHANCE = 0.5
"""How often another group is assigned at random, so that candidates differ."""
_ABSENT, _ABSENT_FROM_TRAIN = 0.2, 2.0
"""The cost of a class that a split does not show, in addition to its distance from the share."""


@dataclass(frozen=True)
class Group:
    """Images that stay together: their number, and how many of them show each class. ``key`` is their seeded hash."""

    size: int
    shown: tuple[tuple[str | None, int], ...]
    key: str


def divide(groups: Sequence[Group], shares: Mapping[Split, int]) -> list[Split]:
    """The split of each group, in order. ``shares`` are numbers of images that add up to all.

    There must be at least as many groups as splits. No split stays empty.
    """
    splits = list(shares)
    candidates = max(1, min(CANDIDATES, WORK // len(groups)))
    found = [_Division(groups, [shares[split] for split in splits], number) for number in range(candidates)]
    for division in found:
        division.deal()
        division.improve(PASSES if candidates > 1 else 1)
        division.teach()
    best = min(found, key=lambda division: (len(division.untaught()), division.cost(), division.number))
    return [splits[place] for place in best.chosen]


class _Division:
    """One division in progress. Splits and classes are numbers."""

    def __init__(self, groups: Sequence[Group], shares: Sequence[int], number: int) -> None:
        labels = sorted(
            {label for group in groups for label, _ in group.shown}, key=lambda label: (label or "", label is None)
        )
        numbers = {label: place for place, label in enumerate(labels)}
        self.number = number
        self._classes = {place: None for label, place in numbers.items() if label is not None}
        self.chosen = [-1] * len(groups)
        self._sizes = [group.size for group in groups]
        self._keys = [group.key for group in groups]
        self._shown = [[(numbers[label], count) for label, count in group.shown] for group in groups]
        self._shares = shares
        self._images = sum(shares)
        self._ratios = [share / self._images for share in shares]
        self._largest = max(self._sizes)
        self._totals = [0] * len(labels)
        for shown in self._shown:
            for label, count in shown:
                self._totals[label] += count
        self._held = [0] * len(shares)
        self._members = [0] * len(shares)
        self._holds = [[0] * len(labels) for _ in shares]
        self._dealt: set[int] = set()

    def deal(self) -> None:
        """Assign every group, the largest first."""
        order = sorted(range(len(self._sizes)), key=lambda group: (-self._sizes[group], self._keys[group], group))
        for group in self._alone(order):
            self._dealt.add(group)
            self._put(group, 0)
        order = [group for group in order if group not in self._dealt]
        for place, group in enumerate(order):
            empty = [split for split, members in enumerate(self._members) if not members]
            must_fill = len(order) - place <= len(empty)
            open_to = empty if must_fill else list(self._lacking_all_of(group))
            roomy = [split for split in open_to if self._shares[split] >= 2 * self._sizes[group]]
            if place < DEALT and len(roomy) > 1 and not must_fill:
                self._dealt.add(group)
                self._put(group, self._by_chance(group, roomy, "dealt"))
            elif len(open_to) > 1 and self._drawn(group, f"whether {self.number}") < _CHANCE:
                self._put(group, self._by_chance(group, open_to, f"where {self.number}"))
            else:
                self._put(group, min(open_to, key=lambda split: (self._fullness(group, split), split)))

    def improve(self, passes: int) -> None:
        """Move groups to other splits while that lowers the cost."""
        order = sorted(range(len(self._sizes)), key=lambda group: self._drawn(group, f"order {self.number}"))
        for _ in range(passes):
            if not sum([self._moved(group) for group in order if group not in self._dealt]):
                return

    def teach(self) -> None:
        """Bring missing classes to train: a group moves there, or is exchanged for one that train can spare."""
        for label in self.untaught():
            if not self._holds[0][label] and (ways := list(self._ways_to_teach(label))):
                self._exchange(*min(ways, key=lambda way: (self._exchanged_cost(*way), way[0], way[1] or 0)))

    def _ways_to_teach(self, label: int) -> Iterator[tuple[int, int | None]]:
        """Possible exchanges: a group with the class, and the group that leaves train for it, if any."""
        spared = [group for group, split in enumerate(self.chosen) if split == 0 and self._can_leave(group)]
        spared.sort(key=lambda group: (self._sizes[group], self._keys[group], group))
        for group in (group for group, shown in enumerate(self._shown) if any(label == one for one, _ in shown)):
            now = self.chosen[group]
            if self._members[now] > 1:
                yield group, None
            for other in spared[:EXCHANGED]:
                if self._held[now] - self._sizes[group] + self._sizes[other] - self._shares[now] < self._largest:
                    yield group, other

    def untaught(self) -> list[int]:
        """Classes that train does not show. Images without a class do not count as one."""
        return [label for label in self._classes if not self._holds[0][label]]

    def cost(self) -> float:
        """The distance from the share of every class and from the ratios; 0 is perfect."""
        classes = sum(
            self._off(label, split, 0) for split in range(len(self._shares)) for label in range(len(self._totals))
        )
        return classes + sum(self._beside(split, 0) for split in range(len(self._shares)))

    # --- possible splits of a group

    def _alone(self, order: Sequence[int]) -> list[int]:
        """Groups that have all images of a class, but no more than leave one group for every other split."""
        having = Counter(label for shown in self._shown for label, _ in shown)
        alone = [
            group
            for group in order
            if any(having[label] == 1 and label in self._classes for label, _ in self._shown[group])
        ]
        return alone[: len(order) - len(self._shares) + 1]

    def _lacking_all_of(self, group: int) -> Iterator[int]:
        """The splits with room for the whole group; if there is none, the split with the most room."""
        lacking = [share - held for share, held in zip(self._shares, self._held, strict=True)]
        fitting = [split for split, lack in enumerate(lacking) if lack >= self._sizes[group]]
        return iter(fitting or [max(range(len(lacking)), key=lambda split: (lacking[split], -split))])

    def _by_chance(self, group: int, open_to: Sequence[int], what: str) -> int:
        """A random split, with probabilities in proportion to their room."""
        lacking = [max(1, self._shares[split] - self._held[split]) for split in open_to]
        left = self._drawn(group, what) * sum(lacking)
        for split, lack in zip(open_to, lacking, strict=True):
            left -= lack
            if left < 0:
                return split
        return open_to[-1]

    def _drawn(self, group: int, what: str) -> float:
        """A random number in [0, 1) that depends only on the seed, the group's content and ``what``."""
        digest = hashlib.sha256(f"{self._keys[group]}:{what}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48

    def _fullness(self, group: int, split: int) -> float:
        """How full the split is of the group's classes; rare classes weigh as much as others."""
        holds, ratio = self._holds[split], self._ratios[split]
        return sum(
            count / self._totals[label] * (holds[label] + count) / (self._totals[label] * ratio)
            for label, count in self._shown[group]
        )

    # --- moves

    def _moved(self, group: int) -> bool:
        now = self.chosen[group]
        if self._members[now] == 1 or (now == 0 and not self._can_leave(group)):
            return False
        best, target = -1e-12, None
        for split in range(len(self._shares)):
            beyond = self._held[split] + self._sizes[group] - self._shares[split]
            if split != now and beyond < self._largest and (gain := self._change(group, now, split)) < best:
                best, target = gain, split
        if target is None:
            return False
        self._take(group)
        self._put(group, target)
        return True

    def _can_leave(self, group: int) -> bool:
        """Whether train would still show all classes without this group."""
        classes, holds = self._classes, self._holds[0]
        return all(holds[label] > count for label, count in self._shown[group] if label in classes)

    def _exchange(self, group: int, other: int | None) -> None:
        """Move the group to train, and the other group, if any, from train to where it was."""
        place = self.chosen[group]
        self._take(group)
        self._put(group, 0)
        if other is not None:
            self._take(other)
            self._put(other, place)

    def _exchanged_cost(self, group: int, other: int | None) -> float:
        place = self.chosen[group]
        self._exchange(group, other)
        cost = self.cost()
        if other is not None:
            self._take(other)
            self._put(other, 0)
        self._take(group)
        self._put(group, place)
        return cost

    def _change(self, group: int, now: int, to: int) -> float:
        size = self._sizes[group]
        change = self._beside(now, -size) - self._beside(now, 0) + self._beside(to, size) - self._beside(to, 0)
        for label, count in self._shown[group]:
            change += self._off(label, now, -count) - self._off(label, now, 0)
            change += self._off(label, to, count) - self._off(label, to, 0)
        return change

    def _off(self, label: int, split: int, more: int) -> float:
        """The class's distance from its share of the split after ``more`` images of it are added."""
        holds = self._holds[split][label] + more
        absent = 0.0 if holds else _ABSENT_FROM_TRAIN if split == 0 else _ABSENT
        return (abs(holds / self._totals[label] - self._ratios[split]) + absent) / len(self._totals)

    def _beside(self, split: int, more: int) -> float:
        return abs(self._held[split] + more - self._shares[split]) / self._images

    def _put(self, group: int, split: int) -> None:
        self.chosen[group] = split
        self._count(group, split, 1)

    def _take(self, group: int) -> None:
        self._count(group, self.chosen[group], -1)

    def _count(self, group: int, split: int, sign: int) -> None:
        self._held[split] += sign * self._sizes[group]
        self._members[split] += sign
        for label, count in self._shown[group]:
            self._holds[split][label] += sign * count
