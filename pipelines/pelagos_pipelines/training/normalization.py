"""The scale of a network's input by the statistics of its dataset: in training, and in front of the graph that is exported.

Families call it. The server gives every network of a task the same values; the graph of one that was taught on another scale
begins with the change to that, so that nobody has to know of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pelagos_contract import disk
from pelagos_contract.preprocessing import Statistics
from pelagos_pipelines.export import graph_edits

_LEAST = 1 / 255
"""A channel that is the same in all images has no deviation to divide by."""
_USUAL = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Scale:
    """Turns values [n, 3, height, width], red first, as the server gives them, into those of a dataset's own scale."""

    factors: tuple[float, ...]
    offsets: tuple[float, ...]

    @classmethod
    def to(cls, wanted: Statistics | None, given: tuple[Sequence[float], Sequence[float]] = _USUAL) -> Scale | None:
        """To mean 0 and deviation 1 in the training split; ``given`` are the mean and deviation that the server takes out."""
        if wanted is None:
            return None
        deviations = [max(one, _LEAST) for one in wanted.deviation]
        factors = (float(of) / one for of, one in zip(given[1], deviations, strict=True))
        offsets = ((float(of) - mean) / one for of, mean, one in zip(given[0], wanted.mean, deviations, strict=True))
        return cls(tuple(factors), tuple(offsets))

    @classmethod
    def kept(cls, content: Any) -> Scale | None:
        """As a checkpoint has it, see `content`."""
        return None if content is None else cls(tuple(content[0]), tuple(content[1]))

    @property
    def content(self) -> list[list[float]]:
        """For a checkpoint, in types that are loaded safely."""
        return [list(self.factors), list(self.offsets)]

    def apply(self, values: Any) -> Any:
        """In float32, as the graph does it. ``values`` is a tensor of torch."""
        factors, offsets = (values.new_tensor(one).view(1, 3, 1, 1) for one in (self.factors, self.offsets))
        return values * factors + offsets

    def put_before(self, path: Path) -> None:
        """Have the graph in the file ``path`` begin with it."""
        import onnx

        model = onnx.load(path)
        graph_edits.scale(model, self.factors, self.offsets)
        onnx.checker.check_model(model)
        with disk.written(path):
            path.write_bytes(model.SerializeToString(deterministic=True))
