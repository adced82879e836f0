"""Builds container images with the commands of Docker, Podman or Buildah. For `pelagos image` and `make images`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PROBES = {"docker": ("version", "--format={{.Client.Version}}"), "podman": ("info",), "buildah": ("info",)}
_FIRST_WITH_A_PLUGIN = 23
"""First version of Docker's client with BuildKit, which builds, as a plugin; before, it was built in."""


class RefusedError(Exception):
    """The caller must change something; the message says what."""


class Engine:
    """One of the three programs; ``folder`` is for its output files."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program = program
        self._folder = folder

    def build(self, context: Path, file: Path, reference: str, options: Sequence[str], epoch: int) -> str:
        """Build an image by ``file`` from the folder ``context``; returns its id. ``epoch`` is its timestamp in seconds."""
        written = self._folder / "id"
        self._run(
            "build",
            *(f"--file={file}", f"--tag={reference}", f"--iidfile={written}"),
            *self._of_the_engine(file, epoch),
            *options,
            str(context),
            environment={"DOCKER_BUILDKIT": "1", "SOURCE_DATE_EPOCH": str(epoch)},
        )
        return written.read_text().strip()

    def push(self, repository: str, reference: str) -> str:
        """Push an image; returns its digest in the registry."""
        if self.program == "docker":
            self._run("push", reference)
            told = self._run("image", "inspect", "--format={{json .RepoDigests}}", reference, quiet=True)
            named = [each.partition("@") for each in json.loads(told)]
            digest = next((digest for name, _, digest in named if name == repository), "")
        else:
            written = self._folder / "digest"
            self._run("push", f"--digestfile={written}", reference)
            digest = written.read_text().strip()
        if not _DIGEST.fullmatch(digest):
            raise RefusedError(f"{self.program} pushed {reference} but reported no digest for it: {digest!r}")
        return digest

    def _of_the_engine(self, file: Path, epoch: int) -> tuple[str, ...]:
        if self.program == "docker":
            return ()
        # Docker's format, since the OCI format has no health check.
        ignored = file.with_name(f"{file.name}.dockerignore")
        return "--format=docker", f"--timestamp={epoch}", *([f"--ignorefile={ignored}"] if ignored.exists() else [])

    def _run(self, *arguments: str, environment: Mapping[str, str] | None = None, quiet: bool = False) -> str:
        output = subprocess.PIPE if quiet else sys.stderr
        done = subprocess.run(
            [self.program, *arguments], env={**os.environ, **(environment or {})}, stdout=output, text=True, check=False
        )
        if done.returncode != 0:
            raise RefusedError(
                f"{self.program} {arguments[0]} failed with code {done.returncode}; see its output above."
            )
        return done.stdout or ""


def usable(named: str, option: str) -> str:
    """The program to build with: the one named by ``option``, else the first that works here. Raises RefusedError."""
    if named and named not in _PROBES:
        raise RefusedError(f"{option} is {named!r}; allowed are {', '.join(_PROBES)}.")
    reasons = {program: _unusable(program) for program in ((named,) if named else _PROBES)}
    for program, reason in reasons.items():
        if not reason:
            return program
    told = "; ".join(f"{program}: {reason}" for program, reason in reasons.items())
    raise RefusedError(
        f"No container engine works here ({told}). Start one, or name it: {option}=docker, podman or buildah."
    )


def _unusable(program: str) -> str:
    """Why a program cannot build here; "" when it can."""
    if not shutil.which(program):
        return "is not installed"
    done = subprocess.run([program, *_PROBES[program]], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or ["does not work"])[-1]
    major = done.stdout.partition(".")[0].strip()
    if program == "docker" and major.isdigit() and int(major) >= _FIRST_WITH_A_PLUGIN:
        plugin = subprocess.run([program, "buildx", "version"], capture_output=True, check=False)
        return "has no BuildKit: install its plugin buildx" if plugin.returncode != 0 else ""
    return ""
