"""Collects the faults of a source before it is refused, so that people learn of all faults at once.

Readers and their parsing tasks note faults here and continue; ``refuse_any`` ends the reading. Only the first faults are kept and
the rest are counted, so that a million faults take no memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pelagos_contract.failures import Reason, RefusedError

MOST = 10
"""Most faults that are reported in full."""
_LONGEST = 1000


@dataclass
class Faults:
    """The first faults as refusals, in the order of discovery, and the number of all."""

    first: list[RefusedError] = field(default_factory=list)
    count: int = 0

    def add(self, fault: RefusedError) -> None:
        """Note a fault."""
        self.count += 1
        if len(self.first) < MOST:
            self.first.append(fault)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """A context that notes a RefusedError raised within it and continues after it."""
        try:
            yield
        except RefusedError as fault:
            self.add(fault)

    def refuse_any(self) -> None:
        """Refuse the source if there are faults.

        Raises:
            RefusedError: with the reason of the first fault, and the messages of the first MOST.
        """
        if self.count == 1:
            raise self.first[0]
        if self.first:
            failures = [fault.failure for fault in self.first]
            words = " ".join(f"({number}) {failure.message}." for number, failure in enumerate(failures, start=1))
            more = self.count - len(failures)
            told = f"{self.count} faults: {words}" + (f" And {more} more like these." if more else "")
            raise RefusedError(failures[0].reason, told, failures[0].field)

    def document(self) -> list[object]:
        """The faults in the form of a task's answer."""
        failures = [fault.failure for fault in self.first]
        return [self.count, [[failure.reason.value, failure.message, failure.field] for failure in failures]]

    def include(self, document: object) -> None:
        """Add the faults of a task's answer, which is not trusted.

        Raises:
            ValueError: the document is invalid.
        """
        if not (isinstance(document, list) and len(document) == 2 and type(document[0]) is int):
            raise ValueError("faults")
        count, listed = document
        if not (isinstance(listed, list) and len(listed) == min(count, MOST)):
            raise ValueError("faults")
        for reason, message, place in listed:
            if not isinstance(message, str) or not isinstance(place, str | None):
                raise ValueError("faults")
            self.add(RefusedError(Reason(reason), message[:_LONGEST], place))
        self.count += count - len(listed)
