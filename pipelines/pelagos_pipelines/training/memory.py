"""Recognises exhausted memory, in trainings and in the steps around them, and words it in terms of the request."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.training import Hyperparameters

# Parts of the messages of torch, its accelerator libraries, its CPU allocator, its data loaders, and OpenCV.
SIGNS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "_alloc_failed",
    "insufficient memory",
    "insufficient shared memory",
    "is killed by signal: killed",
    "is killed by signal: bus error",
)
_OF_ACCELERATORS = ("cuda", "cublas", "cudnn", "cusolver", "hip ", "accelerator")


def is_exhausted(error: BaseException) -> bool:
    """Whether the error means that memory has run out."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    # OpenCV raises cv2.error, which is not a RuntimeError.
    if not isinstance(error, RuntimeError) and type(error).__module__ != "cv2":
        return False
    return any(sign in str(error).lower() for sign in SIGNS)


def refusal(parameters: Hyperparameters, error: BaseException) -> RefusedError:
    """OUT_OF_MEMORY for a training, with a hint of what to change."""
    said = str(error)[:200]
    on_accelerator = any(sign in said.lower() for sign in _OF_ACCELERATORS)
    more = "take an accelerator with more memory" if on_accelerator else "give it more in spec.resources.memory"
    smaller = "lower hyperparameters.imageSize, or take a smaller architecture"
    if parameters.batch_size > 1:
        smaller = "lower hyperparameters.batchSize (gradientAccumulation makes up for it) or hyperparameters.imageSize"
    return RefusedError(
        Reason.OUT_OF_MEMORY,
        f"memory ran out at batchSize {parameters.batch_size} and imageSize {parameters.image_size} ({said}); in a new"
        f" TrainingRun {smaller}, or {more}. Epochs that were finished are on record",
        "hyperparameters.batchSize" if parameters.batch_size > 1 else "hyperparameters.imageSize",
    )


@contextmanager
def refusing(parameters: Hyperparameters) -> Iterator[None]:
    """Turn exhausted memory in the block into a refusal; other errors pass through."""
    try:
        yield
    except Exception as error:
        if is_exhausted(error):
            raise refusal(parameters, error) from error
        raise


@contextmanager
def refusing_beside_training(parameters: Hyperparameters) -> Iterator[None]:
    """Like `refusing`, for what a step does before and after a training, where images go through the network one by one."""
    try:
        yield
    except Exception as error:
        if not is_exhausted(error):
            raise
        raise RefusedError(
            Reason.OUT_OF_MEMORY,
            f"memory ran out at imageSize {parameters.image_size}, outside of the training ({str(error)[:200]}); what was"
            " finished before is kept and not done again: free memory, and set the annotation pelagos.dev/retry to a new value,"
            " or lower hyperparameters.imageSize in a new TrainingRun",
            "hyperparameters.imageSize",
        ) from error
