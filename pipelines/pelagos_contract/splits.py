"""The splits of a dataset version. Apart from the models of datasets, because trainings need only these names of them."""

from __future__ import annotations

from typing import Literal

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
