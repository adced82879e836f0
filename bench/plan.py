"""Input of every measurement: paths and sizes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Size = TypeVar("Size", int, float)


@dataclass(frozen=True)
class Plan:
    """``folder``: an empty folder for logs and data, deleted afterwards. ``data``: the data volume with the samples."""

    root: Path
    folder: Path
    environments: Path
    data: Path
    name: str
    quick: bool

    @classmethod
    def make(cls, root: Path, folder: Path, name: str, *, quick: bool) -> Plan:
        """A plan with paths from the environment variables of an installation, or their defaults in a checkout."""
        environments = Path(os.environ.get("PELAGOS_ENVIRONMENTS", root / ".venvs")).absolute()
        home = Path(os.environ.get("PELAGOS_HOME", root / ".pelagos")).absolute()
        data = Path(os.environ.get("PELAGOS_DATA_ROOT", home / "data")).absolute()
        return cls(root, folder, environments, data, name, quick)

    def size(self, full: Size, quick: Size) -> Size:
        """``quick`` in a quick run, else ``full``."""
        return quick if self.quick else full

    def python(self, environment: str) -> Path:
        """The path of an environment's interpreter."""
        return self.environments / environment / "bin" / "python"

    def program(self, name: str) -> Path:
        """The path of a program in ``bench/programs``, which runs in its own process."""
        return self.root / "bench" / "programs" / f"{name}.py"

    def reading(self, **figures: object) -> str:
        """The measurement's explanation from ``bench/readings``, with ``figures`` for its placeholders."""
        text = (self.root / "bench" / "readings" / f"{self.name}.md").read_text(encoding="utf-8")
        return text.format(**figures)

    def log(self, name: str) -> Path:
        """The file for a process's output."""
        return self.folder / f"{name}.log"

    def say(self, text: str) -> None:
        """Print a line of progress."""
        print(f"{self.name}: {text}", flush=True)
