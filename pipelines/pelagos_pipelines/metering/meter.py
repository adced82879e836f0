"""Sums the cost of a run's steps over all its attempts, in the run's workspace. Each process of a step has one meter.

A thread measures every `PERIOD` seconds and notes the result, so that little is lost if the process is killed. What is unknown
about a killed process is reported in words.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError

from pelagos_contract import cost, disk, sealing
from pelagos_contract.base import Strict
from pelagos_contract.cost import Amount, Cost
from pelagos_pipelines.metering import accelerators, processors, system
from pelagos_pipelines.metering.accelerators import Gpu, Nvml
from pelagos_pipelines.metering.processors import Machine, Rapl

log = logging.getLogger(__name__)

DOCUMENT = "cost.json"
PERIOD = 10.0
"""Seconds between two measurements."""
MOST_PROCESSES = 200
"""Most processes with separate notes; older notes are merged."""
_STEP = "cost"
Tell = Callable[[Mapping[str, float], int, float], None]
"""Receives system figures, the seconds since the first attempt began to compute, and the present time."""


class Note(Strict):
    """The resources that one process of a step used. Joules: None if unknown; ``counted``: read from the processor's counters.

    ``has_ended``: the process has recorded its end, so these figures are complete.
    """

    attempt: Annotated[int, Field(ge=1, le=10**6)]
    seconds: Amount = 0.0
    cpu_seconds: Amount = 0.0
    gpu_seconds: Amount | None = 0.0
    cpu_joules: Amount | None = 0.0
    gpu_joules: Amount | None = 0.0
    counted: bool = False
    watts_per_core: Amount = 0.0
    has_ended: bool = False
    processes: Annotated[int, Field(ge=1, le=10**6)] = 1


class Notes(Strict):
    """All notes of a run, oldest first. ``is_altered``: earlier notes were altered by others and discarded."""

    notes: Annotated[list[Note], Field(max_length=MOST_PROCESSES + 1, default_factory=list)]
    is_altered: bool = False


class Meter:
    """A context for a step's work. ``path`` is the file with the run's notes; ``keep`` copies them to safe storage at the end."""

    def __init__(
        self,
        path: Path,
        keep: Callable[[bytes], None] = lambda content: None,
        machine: Machine | None = None,
        nvml: Nvml | None = None,
    ) -> None:
        self._path, self._keep = path, keep
        self._machine, self._nvml = machine or Machine(), nvml
        self._lock, self._over = threading.Lock(), threading.Event()
        self._earlier = Notes()
        self._tell: Tell | None = None

    def __enter__(self) -> Self:
        """Begin, after the workspace was downloaded."""
        self._earlier = _read(self._path)
        self._watts, self._grams = cost.settings()
        self._rapl, self._times = Rapl(self._machine), self._machine.times()
        self._used_before = processors.used_seconds()
        self._nvml = self._nvml or Nvml()
        self._gpus = {gpu.uuid: gpu for gpu in self._nvml.gpus()}
        self._last = time.monotonic()
        own = sealing.sealer()
        self._note = Note(attempt=own.attempt if own else self._next_attempt())
        self._usage = system.Usage(self._machine)
        with contextlib.suppress(OSError):  # if nothing can be written, the step itself will report it
            self._write()
        threading.Thread(target=self._work, name="metering", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._over.set()
        with contextlib.suppress(Exception):  # the step has finished its work; an error in metering must not fail it
            with self._lock:
                self._look()
                self._note = self._note.model_copy(update={"has_ended": True})
                content = self._write()
            self._keep(content)

    def tell(self, tell: Tell | None) -> None:
        """Report system figures to ``tell`` from now on; None stops that, after one report for a short training."""
        with self._lock:
            if tell is None:
                self._look()
                self._tell_system()
            self._tell = tell

    def total(self) -> Cost:
        """The cost of the run to this point."""
        with self._lock:
            self._look()
            return total(
                Notes(notes=[*self._earlier.notes, self._note], is_altered=self._earlier.is_altered), self._grams
            )

    def _work(self) -> None:
        while not self._over.wait(PERIOD):
            try:
                with self._lock:
                    self._look()
                    self._write()
                    self._tell_system()
            except Exception as error:  # for example a full disk, which the step will notice itself
                log.warning("what this step takes could not be noted: %s", error)

    def _look(self) -> None:
        """Update the note to the present."""
        now = time.monotonic()
        passed, self._last = now - self._last, now
        used = max(processors.used_seconds() - self._used_before, 0.0)
        self._rapl.look()
        counted = self._share(used)
        seconds, joules = self._of_gpus(passed)
        note = self._note
        self._note = note.model_copy(
            update={
                "seconds": note.seconds + passed,
                "cpu_seconds": used,
                "cpu_joules": used * self._watts if counted is None else counted,
                "counted": counted is not None,
                "watts_per_core": self._watts,
                "gpu_seconds": _sum((note.gpu_seconds, seconds)),
                "gpu_joules": _sum((note.gpu_joules, joules)),
            }
        )

    def _share(self, used: float) -> float | None:
        """This process's share of the machine's processor energy, by its share of processor time; None without counters."""
        times = self._machine.times()
        if not self._rapl.is_readable or times is None or self._times is None:
            return None
        busy = times[0] - self._times[0]
        return self._rapl.joules * min(used / busy, 1.0) if busy > 0 else None

    def _of_gpus(self, passed: float) -> tuple[float | None, float | None]:
        """Seconds and joules of the occupied GPUs since the last measurement."""
        assert self._nvml is not None
        before, now = self._gpus, {gpu.uuid: gpu for gpu in self._nvml.gpus()}
        self._gpus = now
        held = accelerators.held(list(now.values()))
        if held is None:
            return None, None
        return passed * len(held), _sum(_joules(before.get(uuid), now.get(uuid), passed) for uuid in held)

    def _tell_system(self) -> None:
        if self._tell is None:
            return
        began = sum(note.seconds for note in self._earlier.notes)
        figures = self._usage.due(self._note.seconds, list(self._gpus.values()))
        if figures:
            self._tell(figures, round(began + self._note.seconds), time.time())

    def _write(self) -> bytes:
        notes = [*self._earlier.notes, self._note]
        document = Notes(notes=notes, is_altered=self._earlier.is_altered).written()
        content = (json.dumps(sealing.sealed(document, sealing.STATE, step=_STEP)) + "\n").encode()
        disk.write_atomically(self._path, content, parents=True)
        return content

    def _next_attempt(self) -> int:
        return max((note.attempt for note in self._earlier.notes), default=0) + 1


def total(found: Notes, grams: float) -> Cost:
    """The total cost of the notes, with ``grams`` of CO2 equivalent per kilowatt-hour."""
    notes = found.notes
    cpu, gpu = _sum(note.cpu_joules for note in notes), _sum(note.gpu_joules for note in notes)
    joules = _sum((cpu, gpu))
    hours = None if joules is None else joules / cost.JOULES_PER_KWH
    return Cost(
        seconds=sum(note.seconds for note in notes),
        cpu_seconds=sum(note.cpu_seconds for note in notes),
        gpu_seconds=_sum(note.gpu_seconds for note in notes),
        kilowatt_hours=hours,
        energy_method=_method(notes),
        grams=None if hours is None else hours * grams,
        grams_per_kwh=grams,
        attempts=max(note.attempt for note in notes),
        missing=_missing(found, gpu),
    )


def _method(notes: Iterable[Note]) -> str:
    """How the energy was determined, each method once."""
    said: dict[str, None] = {}
    for note in notes:
        watts = f"{note.watts_per_core:g} W for each busy core"
        way = (
            "measured by RAPL, by the share of the machine's processor time"
            if note.counted
            else f"estimated as {watts}"
        )
        said[f"processors {way}"] = None
        if note.gpu_seconds != 0:
            said["GPUs measured by NVML" if note.gpu_joules is not None else "GPUs unknown"] = None
    return "; ".join(said)[:1000]


def _missing(found: Notes, gpu_joules: float | None) -> list[str]:
    *earlier, last = found.notes
    silent = [note.attempt for note in earlier if not note.has_ended]
    oldest = found.notes[0]
    first = 1 if oldest.processes == 1 else oldest.attempt  # earlier notes were merged
    unheard = sorted(set(range(first, last.attempt)) - {note.attempt for note in found.notes})
    said = []
    if found.is_altered:
        said.append("what earlier attempts noted was altered by others, and is not counted")
    elif unheard:
        said.append(f"nothing is known of {_attempts(unheard)}, which left no note")
    if silent:
        said.append(f"what was taken after the last note of {_attempts(silent)}, which ended without a word")
    if gpu_joules is None:
        said.append("the energy of GPUs, which the driver does not tell")
    return said


def _attempts(numbers: list[int]) -> str:
    named = ", ".join(map(str, dict.fromkeys(numbers[:10])))
    return f"attempt {named}" if len(set(numbers)) == 1 else f"attempts {named}" + (" and more" * (len(numbers) > 10))


def _joules(before: Gpu | None, now: Gpu | None, passed: float) -> float | None:
    """The energy since ``before`` by the counter, or by the present power without one; None if unknown."""
    if now is None:
        return None
    if now.joules is not None:
        # A counter that was reset, or is new, starts from its present value.
        since = before.joules if before is not None and before.joules is not None else now.joules
        return max(now.joules - since, 0.0)
    return None if now.watts is None else now.watts * passed


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum; None if any value is unknown."""
    known = list(values)
    return None if any(value is None for value in known) else sum(value for value in known if value is not None)


def _read(path: Path) -> Notes:
    """The notes of earlier processes of the run. Notes without a valid seal are discarded, which is reported."""
    if not path.exists():
        return Notes()
    content: Any = sealing.opened(sealing.document(path), sealing.STATE, step=_STEP)
    try:
        found = Notes.model_validate(content)
    except ValidationError:
        return Notes(is_altered=True)
    return found.model_copy(update={"notes": _bounded(found.notes)})


def _bounded(notes: list[Note]) -> list[Note]:
    """At most ``MOST_PROCESSES`` notes, by merging the two oldest repeatedly."""
    while len(notes) > MOST_PROCESSES:
        first, second = notes[:2]
        both = {
            name: _sum((getattr(first, name), getattr(second, name)))
            for name in ("seconds", "cpu_seconds", "gpu_seconds", "cpu_joules", "gpu_joules")
        }
        both["processes"] = first.processes + second.processes
        notes = [second.model_copy(update={**both, "has_ended": first.has_ended and second.has_ended}), *notes[2:]]
    return notes
