"""An operator process on a real API server, and the resources that both used. Shared by operators.py and scale.py."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench import measuring, traffic
from bench.plan import Plan
from control_plane import ControlPlane, start_control_plane

OURS, SAME, FLOOR = "Pelagos", "the same requests", "kopf alone"
PROGRAMS = {OURS: "operator_with_fakes", SAME: "operator_of_same_requests", FLOOR: "operator_of_kopf_alone"}
EARLY = "early"
"""The Dataset that exists before the operator starts."""
SETTLE_SECONDS = 1.5
LEAST_PAUSE, LONGEST_PAUSE = 10, 1.0
"""Pause between two reads of an operator's metrics: this multiple of the last read's time, and at most this many seconds."""
_WITHOUT_CLIENT = (
    "import runpy, sys; sys.modules['kubernetes'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"
)
"""kopf imports the official client, if it is installed, to log in. Pelagos does not use it, so the peer must not either."""
_AS_STARTED = "from pelagos import garbage; garbage.postpone(); "
"""The first thing that `python -m pelagos` does."""
_PASSES = re.compile(r'^pelagos_reconciles_total\{kind="Dataset",[^}]*\} (\S+)$', re.MULTILINE)
_KNOWN = re.compile(r'^pelagos_resources\{kind="Dataset",[^}]*\} (\S+)$', re.MULTILINE)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Operator:
    """An operator process. ``began``: its start, in monotonic seconds."""

    pid: int
    namespace: str
    home: Path
    log: Path
    began: float

    def passes(self) -> int:
        """The number of passes over Datasets since the start."""
        return self._count(_PASSES)

    def known(self) -> int:
        """The number of Datasets that it has seen."""
        return self._count(_KNOWN)

    def until(self, number: int, *, passes: bool = False, seconds: float = 180) -> float:
        """Wait until it knows this many Datasets, or has made this many passes; returns that time in monotonic seconds.

        Raises MeasurementError after ``seconds``.
        """
        tell, deadline = self.passes if passes else self.known, time.monotonic() + seconds
        while True:
            began = time.monotonic()
            if tell() >= number:
                return began
            # The operator counts all its resources at each read. Reading as often as it can answer would be a large part of
            # the measured work; in production Prometheus reads about every 15 seconds.
            pause = min(max(0.25, LEAST_PAUSE * (time.monotonic() - began)), LONGEST_PAUSE)
            if time.monotonic() + pause > deadline:
                raise measuring.MeasurementError(
                    f"{number} Datasets are not seen after {seconds:.0f} s; see {self.log}"
                )
            time.sleep(pause)

    def figures(self) -> str:
        """The text of its metrics; empty while it does not answer."""
        try:
            port = json.loads((self.home / "operator.json").read_text(encoding="utf-8"))["metrics_port"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def _count(self, line: re.Pattern[str]) -> int:
        return int(sum(float(value) for value in line.findall(self.figures())))


@contextlib.contextmanager
def plane(plan: Plan) -> Iterator[ControlPlane]:
    """Run an API server with our CustomResourceDefinitions."""
    started = start_control_plane(plan.folder / "plane")
    try:
        started.apply_crds()
        yield started
    finally:
        started.stop()


def namespace(known: ControlPlane) -> str:
    """Create a new namespace, and return its name."""
    name = f"bench-{next(_numbers)}"
    known.create_namespace(name)
    return name


@contextlib.contextmanager
def operating(
    plan: Plan, known: ControlPlane, name: str, where: str, cores: set[int], **settings: str
) -> Iterator[Operator]:
    """Run one of PROGRAMS on a namespace, with further ``settings``, until the context ends."""
    home = plan.folder / f"{where}-{next(_numbers)}"
    environment = {
        **os.environ,
        "PELAGOS_HOME": str(home),
        "PELAGOS_KUBECONFIG": str(known.kubeconfig),
        "PELAGOS_NAMESPACE": where,
        **settings,
    }
    begin = (_AS_STARTED if name == OURS else "") + _WITHOUT_CLIENT
    command = [plan.python("control-plane"), "-c", begin, plan.program(PROGRAMS[name])]
    log = plan.log(home.name)
    began = time.monotonic()
    with measuring.running(command, log, environment, cores) as process:
        yield Operator(process.pid, where, home, log, began)


@dataclass(frozen=True)
class Stage:
    """A running operator and its clients in a namespace. ``start``: seconds from its start to the first status of EARLY."""

    plane: ControlPlane
    session: aiohttp.ClientSession
    users: traffic.Traffic
    operator: Operator
    start: float

    async def settle(self) -> Counter[tuple[str, str, str]]:
        """Requests that the API server has received, counted after those in progress have ended."""
        await asyncio.sleep(SETTLE_SECONDS)
        return await traffic.requests(self.plane, self.session)

    def reset(self) -> traffic.Seen:
        """Discard what was observed, and return the new record."""
        self.users.seen = traffic.Seen()
        return self.users.seen


@contextlib.asynccontextmanager
async def staged(plan: Plan, known: ControlPlane, name: str, cores: set[int]) -> AsyncIterator[Stage]:
    """Run one of PROGRAMS in a new namespace that already has one Dataset, EARLY."""
    where = namespace(known)
    async with traffic.session(known) as session:
        users = traffic.Traffic(known, where, session)
        async with users.watching():
            await users.create_one(EARLY)
            with operating(plan, known, name, where, cores) as operator:
                await users.until(lambda seen: EARLY in seen.first, f"{name} has started", 60)
                yield Stage(known, session, users, operator, users.seen.first[EARLY] - operator.began)


def cpu_of(known: ControlPlane) -> float:
    """Processor seconds that the API server and etcd have used."""
    return sum(measuring.cpu_seconds(process.pid) for process in known.processes.values())


def writes(made: Counter[tuple[str, str, str]]) -> dict[str, int]:
    """The operator's writes by verb, resource and subresource: without POST of Datasets, which the clients send."""
    found: Counter[str] = Counter()
    for (verb, resource, subresource), number in made.items():
        if verb in traffic.WRITES and (verb, resource) != ("POST", "datasets"):
            found[f"{verb} {resource}{'/' if subresource else ''}{subresource}"] += number
    return dict(found)


def patches(made: dict[str, int]) -> int:
    """The number of writes other than events."""
    return sum(number for what, number in made.items() if "events" not in what)


@dataclass(frozen=True)
class Limit:
    """Requests per second that the API server accepts from WRITERS writers without an operator."""

    creations: float
    patches: float
    """Patches of one short status field."""
    whole_patches: float
    """Patches of a whole status as Pelagos writes it."""


async def limit(known: ControlPlane, number: int, status: dict[str, object]) -> Limit:
    """Measure the limit. ``status``: one that Pelagos has written."""
    async with traffic.session(known) as session:
        users = traffic.Traffic(known, namespace(known), session)
        began = time.monotonic()
        await users.create(number)
        created = number / (time.monotonic() - began)
        short = await users.patch_status(number, {"uri": "seen"})
        return Limit(created, short, await users.patch_status(number, status))
