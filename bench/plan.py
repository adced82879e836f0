"""What every measurement is given: where things are, and how large to measure."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Size = TypeVar("Size", int, float)


@dataclass(frozen=True)
class Plan:
    """``folder`` is empty, for logs and data, and goes afterwards; ``data`` is the data volume with the samples."""

    root: Path
    folder: Path
    environments: Path
    data: Path
    name: str
    quick: bool

    @classmethod
    def make(cls, root: Path, folder: Path, name: str, *, quick: bool) -> Plan:
        """From the environment variables of an installation, or their defaults in a checkout."""
        environments = Path(os.environ.get("PELAGOS_ENVIRONMENTS", root / ".venvs")).absolute()
        home = Path(os.environ.get("PELAGOS_HOME", root / ".pelagos")).absolute()
        data = Path(os.environ.get("PELAGOS_DATA_ROOT", home / "data")).absolute()
        return cls(root, folder, environments, data, name, quick)

    def size(self, full: Size, quick: Size) -> Size:
        """The size for this run."""
        return quick if self.quick else full

    def python(self, environment: str) -> Path:
        """The interpreter of an environment."""
        return self.environments / environment / "bin" / "python"

    def program(self, name: str) -> Path:
        """A program that runs in another process."""
        return self.root / "bench" / "programs" / f"{name}.py"

    def reading(self, **figures: object) -> str:
        """What the measurement says about itself; ``figures`` fill its places."""
        text = (self.root / "bench" / "readings" / f"{self.name}.md").read_text(encoding="utf-8")
        return text.format(**figures)

    def log(self, name: str) -> Path:
        """Where a process's output goes."""
        return self.folder / f"{name}.log"

    def say(self, text: str) -> None:
        """Progress, for whoever waits."""
        print(f"{self.name}: {text}", flush=True)
