"""Exhausted memory is distinguished from other errors, for every kind of memory, and the message says what can be done."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.training import ChosenHyperparameters
from pelagos_pipelines.training import memory


def parameters(batch: int = 8) -> ChosenHyperparameters:
    return ChosenHyperparameters(batch_size=batch, image_size=640)


def raised(error: Exception, batch: int = 8) -> RefusedError:
    with pytest.raises(RefusedError) as caught, memory.refusing(parameters(batch)):
        raise error
    assert caught.value.failure.reason is Reason.OUT_OF_MEMORY
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
        RuntimeError(
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that they are out of shm"
        ),
        RuntimeError("unable to mmap 4096 bytes from file </torch_7>: Cannot allocate memory (12)"),
        cv2.error("OpenCV(4.12.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes"),
        OSError(12, "Cannot allocate memory"),
        MemoryError(),
    ],
    ids=lambda error: f"{type(error).__name__} {str(error)[-30:]}",
)
def test_it_is_recognised(error: Exception) -> None:
    assert "batchSize 8 and imageSize 640" in str(raised(error))


def test_it_is_recognised_where_arrays_and_tensors_do_not_fit() -> None:
    for exhaust in (lambda: np.empty(2**50), lambda: torch.empty(2**60)):
        with pytest.raises(RefusedError), memory.refusing(parameters()):
            exhaust()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        cv2.error("(-215:Assertion failed) !ssize.empty()"),
        OSError(28, "No space left on device"),
        ValueError("out of memory"),
    ],
    ids=str,
)
def test_other_errors_pass_as_they_are(error: Exception) -> None:
    with (
        pytest.raises(type(error)) as caught,
        memory.refusing(parameters()),
        memory.refusing_beside_training(parameters()),
    ):
        raise error
    assert caught.value is error


def test_what_can_be_done_depends_on_the_batch_and_on_whose_memory_it_is() -> None:
    error = raised(torch.OutOfMemoryError("CUDA out of memory"))
    assert error.failure.field == "hyperparameters.batchSize"
    assert "gradientAccumulation" in str(error)
    assert "an accelerator with more memory" in str(error)

    error = raised(MemoryError("4 GiB"), batch=1)
    assert error.failure.field == "hyperparameters.imageSize"
    assert "batchSize (" not in str(error)
    assert "spec.resources.memory" in str(error)
