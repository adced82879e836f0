"""Running out of memory, told from other errors and in the words of the request. Families wrap their training in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.training import Hyperparameters

# What torch says on an accelerator, and what its allocator says on a machine without one.
SIGNS = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed")


def refusal(parameters: Hyperparameters, error: BaseException) -> RefusedError:
    """OUT_OF_MEMORY, with what the person can change."""
    return RefusedError(
        Reason.OUT_OF_MEMORY,
        f"memory ran out at batchSize {parameters.batch_size} and imageSize {parameters.image_size} ({str(error)[:200]});"
        " lower hyperparameters.batchSize or hyperparameters.imageSize, or ask for more memory",
        "hyperparameters.batchSize",
    )


@contextmanager
def refusing(parameters: Hyperparameters) -> Iterator[None]:
    """Turn exhausted memory into a refusal; other errors pass."""
    try:
        yield
    except MemoryError as error:
        raise refusal(parameters, error) from error
    except RuntimeError as error:
        if any(sign in str(error).lower() for sign in SIGNS):
            raise refusal(parameters, error) from error
        raise
