"""Reads event files with the real TensorBoard, in its own environment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

TENSORBOARD = Path(os.environ.get("PELAGOS_ENVIRONMENTS", Path(__file__).parents[1] / ".venvs")) / "tensorboard"
_PROGRAM = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "images": 0})
found.Reload()
tags = found.Tags()
scalars = {tag: [[e.step, e.value, e.wall_time] for e in found.Scalars(tag)] for tag in tags["scalars"]}
images = {tag: [[e.step, e.width, e.height, len(e.encoded_image_string)] for e in found.Images(tag)] for tag in tags["images"]}
print(json.dumps({"scalars": scalars, "images": images}))
"""


def read(place: Path) -> dict[str, Any]:
    """``scalars``: [step, value, time] by tag; ``images``: [step, width, height, bytes]; of one file, or of all in a folder."""
    done = subprocess.run(
        [TENSORBOARD / "bin" / "python", "-c", _PROGRAM, place], stdout=subprocess.PIPE, check=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
