"""Training of classifiers, compared with a plain torch loop on the same images with the same arguments. Called by run.py."""

from __future__ import annotations

import itertools
from pathlib import Path

from PIL import Image

from bench import loops, measuring, training
from bench.loops import Data, Trained
from bench.plan import Plan
from bench.results import Section

ARCHITECTURE = "mobilenet_v3_small"
SIZE, BATCH, THREADS = 96, 32, 1
TURNS = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_LEFT_RIGHT)
BRIGHTNESS = (1.0, 0.97, 0.94, 0.91)
_VIEW = """
import sys
from pathlib import Path
from pelagos_pipelines.preparation import versions
versions.materialise(sys.argv[1], "imagefolder", Path(sys.argv[2]))
"""


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    what = Trained(
        title="Training of classifiers",
        task="Classification",
        architecture=ARCHITECTURE,
        size=SIZE,
        batch=BATCH,
        threads=THREADS,
        learning_rate="0.001",
        epochs=((2, 1), (12, 3)),
        bare="plain torch",
        loop=_loop,
    )
    return loops.measure(plan, what, _prepare)


def _prepare(plan: Plan) -> Data:
    """The sample crops, each rotated and darkened several times, and a view of them for the plain loop."""
    number = 0
    for file in sorted(loops.source(plan, "phytoplankton-crops").glob("*/*")):
        target = plan.folder / "data" / "crops" / file.parent.name
        target.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as image:
            for turn, share in itertools.product(TURNS, BRIGHTNESS[: plan.size(4, 1)]):
                turned = image.convert("RGB") if turn is None else image.convert("RGB").transpose(turn)
                turned.point([round(value * share) for value in range(256)] * 3).save(target / f"{number}.png")
                number += 1
    request = {
        "source": {"volume": {"path": "crops"}},
        "task": "Classification",
        "cleaning": {"duplicates": {"action": "Keep"}},
        "split": {"policy": "Random", "ratios": {"train": 80, "validation": 10, "test": 10}, "seed": 0},
    }
    version = loops.prepared(plan, request, plan.folder / "data")
    view = [plan.python("pipelines"), "-c", _VIEW, version["uri"], plan.folder / "view"]
    measuring.run(view, plan.log("view"), training.environment(plan))
    return Data(version, plan.folder / "data", number)


def _loop(plan: Plan, epochs: int, workspace: Path) -> list[object]:
    program = plan.program("train_plainly")
    return [program, plan.folder / "view", ARCHITECTURE, epochs, SIZE, BATCH, THREADS, workspace]
