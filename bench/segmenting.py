"""Training of segmenters, compared with a plain loop around transformers on the same images and arguments. Called by run.py."""

from __future__ import annotations

from pathlib import Path

from bench import loops, measuring, training
from bench.loops import Data, Trained
from bench.plan import Plan
from bench.results import Section

NETWORK = "mask2former_tiny"
SIZE, BATCH, THREADS = 128, 8, 1


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    what = Trained(
        title="Training of segmenters",
        task="SemanticSegmentation",
        architecture=f"{NETWORK}-semantic",
        size=SIZE,
        batch=BATCH,
        threads=THREADS,
        learning_rate="0.0005",
        epochs=((1, 1), (3, 2)),
        bare="plain transformers",
        loop=_loop,
    )
    return loops.measure(plan, what, _prepare)


def _prepare(plan: Plan) -> Data:
    """The sample scenes, and their arrays for the plain loop."""
    loops.source(plan, "phytoplankton-scenes")
    request = {
        "source": {"volume": {"path": "samples/phytoplankton-scenes"}},
        "format": "Coco",
        "task": "SemanticSegmentation",
        "split": {"policy": "Provided"},
    }
    version = loops.prepared(plan, request, plan.data)
    drawn = [plan.python("pipelines"), plan.program("draw_maps"), version["uri"], SIZE, plan.folder / "arrays.npz"]
    measuring.run(drawn, plan.log("draw"), training.environment(plan))
    images = sum(version["splits"][split]["images"] for split in ("train", "validation"))
    return Data(version, plan.data, images)


def _loop(plan: Plan, epochs: int, workspace: Path) -> list[object]:
    program, arrays = plan.program("train_segmenter_plainly"), plan.folder / "arrays.npz"
    return [program, arrays, NETWORK, epochs, BATCH, THREADS, workspace]
