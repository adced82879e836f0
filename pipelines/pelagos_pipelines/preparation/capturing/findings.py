"""Collects missing values of capture data, with the reasons: counted for the status, and in full for a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson

from pelagos_contract.capture import CaptureFault, CaptureFinding
from pelagos_pipelines.annotations.untrusted_input import MAX_NAMED, format_names, printable

_WORDS = {
    CaptureFault.IMAGE_NOT_FOUND: "rows or items name no image of the source, and are not used",
    CaptureFault.SEVERAL_IMAGES: "rows or items may mean more than one image, and are not used",
    CaptureFault.NOTHING_SAID: "images are not spoken of, so that nothing is known of when and where they were taken",
    CaptureFault.NOT_READABLE: "images have a {field} that is none, and counts as unknown",
    CaptureFault.OUT_OF_RANGE: "images have a {field} that cannot be, and counts as unknown",
    CaptureFault.CONTRADICTION: "images have more than one {field}, which counts as unknown",
    CaptureFault.VIDEO: "items are videos, or say several things of one image, and are not used",
    CaptureFault.DAMAGED: "images have EXIF that is damaged, and counts as unknown",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. ``name`` is an image, or the place of a row that belongs to none; ``place`` is where it is in the file."""

    fault: CaptureFault
    name: str
    field: str | None = None
    place: str | None = None


@dataclass
class Findings:
    """All findings about a source. ``named`` has the images that were mentioned; ``assumed`` counts times taken as UTC."""

    listed: list[Finding] = field(default_factory=list)
    named: set[str] = field(default_factory=set)
    assumed: int = 0

    def add(self, fault: CaptureFault, name: str, field: str | None = None, place: str | None = None) -> None:
        """Add a finding."""
        self.listed.append(Finding(fault, name, field, place))

    @property
    def counted(self) -> list[CaptureFinding]:
        """Counts and first names by reason and field, in the order of the reasons."""
        return [
            CaptureFinding(
                reason=fault.value, field=name, count=len(ones), first=[printable(one.name) for one in ones[:MAX_NAMED]]
            )
            for (fault, name), ones in self._sorted()
        ]

    @property
    def warnings(self) -> Iterator[str]:
        """The same counts as warnings."""
        for (fault, name), ones in self._sorted():
            words = _WORDS[fault].format(field=name)
            yield f"capture: {len(ones)} {words}: {format_names(one.name for one in ones)}"
        if self.assumed:
            yield (
                f"capture: {self.assumed} times have no offset from UTC and are taken for UTC, as are their days and hours; set"
                " capture.utcOffset if clocks showed another time"
            )

    @property
    def lines(self) -> Iterator[bytes]:
        """All findings, each as a line of JSON."""
        for _, ones in self._sorted():
            for one in ones:
                told = {"name": one.name, "reason": one.fault.value, "field": one.field, "place": one.place}
                yield orjson.dumps({key: value for key, value in told.items() if value is not None}) + b"\n"

    def _sorted(self) -> list[tuple[tuple[CaptureFault, str | None], list[Finding]]]:
        found: dict[tuple[CaptureFault, str | None], list[Finding]] = {}
        for one in self.listed:
            found.setdefault((one.fault, one.field), []).append(one)
        order = list(CaptureFault)
        return sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1] or ""))
