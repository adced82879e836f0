"""Makes torch use algorithms that give the same bits for the same input, for families whose framework does not request them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def required() -> Iterator[None]:
    """Use deterministic algorithms in the block. Where an accelerator has none, torch warns and continues."""
    import torch

    filling: Any = torch.utils.deterministic  # a module with one property, which type checkers do not know
    # cuBLAS reads this once, when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn, fill = torch.backends.cudnn.deterministic, filling.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic = True
    filling.fill_uninitialized_memory = False  # takes time, and such memory is never read
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warns)
        torch.backends.cudnn.deterministic = cudnn
        filling.fill_uninitialized_memory = fill
