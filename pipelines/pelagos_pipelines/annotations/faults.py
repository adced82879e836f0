"""All that is wrong in a source, gathered before it is refused: nobody should have to mend one fault to learn of the next.

Readers and the tasks that parse for them note faults here and go on; ``refuse_any`` ends the reading. The first ones are kept, of
the others their number, so that a file of a million faults takes no memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pelagos_contract.failures import Reason, RefusedError

MOST = 10
"""Faults that are told in full."""
_LONGEST = 1000


@dataclass
class Faults:
    """The first faults as refusals, in the order in which they were found, and how many there are."""

    first: list[RefusedError] = field(default_factory=list)
    count: int = 0

    def add(self, fault: RefusedError) -> None:
        """Note one more."""
        self.count += 1
        if len(self.first) < MOST:
            self.first.append(fault)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note what is refused within, and go on after it."""
        try:
            yield
        except RefusedError as fault:
            self.add(fault)

    def refuse_any(self) -> None:
        """Refuse the source when something is wrong with it.

        Raises:
            RefusedError: with the reason of the first fault, and the words of the first MOST.
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
        """For the answer of a task."""
        failures = [fault.failure for fault in self.first]
        return [self.count, [[failure.reason.value, failure.message, failure.field] for failure in failures]]

    def include(self, document: object) -> None:
        """Note the faults of a task's answer, which may be anything once the task was taken over.

        Raises:
            ValueError: it is no such document.
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
