"""Compiles the flows for the control plane. Called by `python -m pelagos_pipelines.flows` and by the test that compares."""

from __future__ import annotations

import tempfile
from pathlib import Path

from kfp import compiler

from pelagos_contract.flows import PREPARATION, TRAINING
from pelagos_pipelines.flows import preparation, training

FOLDER = Path(__file__).parent.parent / "compiled"
"""The folder of the compiled flows, which are committed and installed with the package."""
FLOWS = {
    PREPARATION.file(gpus=False): preparation.dataset_preparation,
    TRAINING.file(gpus=False): training.training,
    TRAINING.file(gpus=True): training.training_on_gpus,
}
"""All flows by their file names."""


def render() -> dict[str, str]:
    """File names with their contents; the same on every machine."""
    return {f"{name}.yaml": _compiled(flow) for name, flow in FLOWS.items()}


def write(folder: Path) -> None:
    """Write the files into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in render().items():
        (folder / name).write_text(text, encoding="utf-8")


def _compiled(flow: object) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flow.yaml"
        compiler.Compiler().compile(flow, str(path))
        return path.read_text(encoding="utf-8")
