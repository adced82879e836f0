"""Helps families write ONNX graphs with torch's TorchScript exporter: atomically, and the same bytes for the same weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pelagos_contract import disk
from pelagos_pipelines.training import checkpoints

OPSET = 17


@contextmanager
def tracing() -> Iterator[None]:
    """Silence the warnings of the TorchScript exporter in the block.

    The exporter is deprecated, but the newer one takes ten times as long for the same graph and cannot export some families.
    """
    from torch.jit._trace import TracerWarning

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=TracerWarning)
        # Both are from torchvision's boxes: its NMS is a script within the trace, and its indices are never negative.
        warnings.filterwarnings("ignore", message="Exporting aten::index operator", category=UserWarning)
        warnings.filterwarnings("ignore", message="`torch.jit.script", category=FutureWarning)
        yield


def finalize_onnx(written: Path, target: Path) -> None:
    """Move a graph to ``target`` without its metadata of date and description, which differ between equal exports."""
    import onnx

    graph = onnx.load(written)
    kept = [entry for entry in graph.metadata_props if entry.key not in {"date", "description"}]
    del graph.metadata_props[:]
    graph.metadata_props.extend(sorted(kept, key=lambda entry: entry.key))
    with disk.written(target.with_name(f".{target.name}.partial")) as partial:
        partial.write_bytes(graph.SerializeToString(deterministic=True))
        written.unlink()
        checkpoints.replace_durably(partial, target)
