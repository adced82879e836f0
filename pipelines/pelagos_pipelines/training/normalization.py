"""Scales a network's input by the statistics of its dataset, in training and at the start of the exported graph.

Called by families. The server passes the same values to every network of a task. The graph of a network that was trained on
another scale begins with the conversion, so that the server need not know of it.
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
"""The smallest deviation to divide by: a channel that is constant over all images has none."""
_USUAL = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Scale:
    """Converts values [n, 3, height, width], red first, from the server's scale to a dataset's own."""

    factors: tuple[float, ...]
    offsets: tuple[float, ...]

    @classmethod
    def to(cls, wanted: Statistics | None, given: tuple[Sequence[float], Sequence[float]] = _USUAL) -> Scale | None:
        """The scale that gives mean 0 and deviation 1 in the training split; None without statistics.

        ``given`` are the mean and the deviation by which the server has already normalised.
        """
        if wanted is None:
            return None
        deviations = [max(one, _LEAST) for one in wanted.deviation]
        factors = (float(of) / one for of, one in zip(given[1], deviations, strict=True))
        offsets = ((float(of) - mean) / one for of, mean, one in zip(given[0], wanted.mean, deviations, strict=True))
        return cls(tuple(factors), tuple(offsets))

    @classmethod
    def kept(cls, content: Any) -> Scale | None:
        """The scale from a checkpoint's entry, see `content`."""
        return None if content is None else cls(tuple(content[0]), tuple(content[1]))

    @property
    def content(self) -> list[list[float]]:
        """The entry for a checkpoint, in types that torch.load reads safely."""
        return [list(self.factors), list(self.offsets)]

    def apply(self, values: Any) -> Any:
        """Scale a torch tensor in its own precision; in float32, this is what the graph computes."""
        factors, offsets = (values.new_tensor(one).view(1, 3, 1, 1) for one in (self.factors, self.offsets))
        return values * factors + offsets

    def put_before(self, path: Path) -> None:
        """Insert the scale at the start of the ONNX graph in the file ``path``."""
        import onnx

        model = onnx.load(path)
        graph_edits.scale(model, self.factors, self.offsets)
        onnx.checker.check_model(model)
        with disk.written(path):
            path.write_bytes(model.SerializeToString(deterministic=True))
