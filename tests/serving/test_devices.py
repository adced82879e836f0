"""The device that computes: the processor, or the GPU that was requested; one never silently replaces the other."""

from __future__ import annotations

import pytest

from pelagos_pipelines.serving import predictions, predictor

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@pytest.mark.parametrize("offered", [[CPU], [CUDA, CPU], ["TensorrtExecutionProvider", CUDA, CPU]])
def test_without_a_gpu_the_processor_computes(offered: list[str]) -> None:
    assert predictor.providers(offered, None) == [CPU]


def test_an_instance_computes_on_the_gpu_that_the_server_gave_it() -> None:
    assert predictor.providers(["TensorrtExecutionProvider", CUDA, CPU], 1) == [(CUDA, {"device_id": "1"}), CPU]


def test_an_image_without_cuda_refuses_a_model_for_a_gpu_and_says_what_to_do() -> None:
    settings = predictions.Settings("Classification", ("a",), 32, 32)
    with pytest.raises(predictor.NoGpuError, match=r"offers .*CPUExecutionProvider.*set spec\.resources\.gpus to 0"):
        predictor.Predictor(b"", settings, gpu=0)
