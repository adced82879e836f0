"""What the processes of a local run import: each of them starts for every run, so that what it does not need costs every run."""

from __future__ import annotations

import subprocess
import sys

RUNNER = """
import os, sys
from pelagos_pipelines import local_runner
local_runner.import_kfp()
from kfp import local
from kfp.components import load_component_from_file
assert not {"kfp.client", "kubernetes", "kfp_server_api"} & set(sys.modules)
assert "_KFP_RUNTIME" not in os.environ
"""
STEP = """
import sys
from pelagos_pipelines.steps import runs, stages
from pelagos_contract.training import TrainingRequest
assert not {"numpy", "torch", "pandas", "mlflow", "pynvml", "pelagos_contract.dataset"} & set(sys.modules)
assert not TrainingRequest.__pydantic_complete__, "built although nobody has sent one"
"""
TRAINING = """
import sys
from pelagos_pipelines.evaluation import fields, ground_truth
from pelagos_pipelines.steps import train
assert not {"scipy", "matplotlib", "pelagos_pipelines.evaluation.tasks"} & set(sys.modules)
"""


def test_a_runner_has_kfp_without_its_client_for_pipeline_servers() -> None:
    subprocess.run([sys.executable, "-c", RUNNER], check=True)


def test_a_step_loads_no_framework_and_builds_no_message_before_it_reads_its_request() -> None:
    subprocess.run([sys.executable, "-c", STEP], check=True)


def test_a_training_reads_its_images_without_loading_what_measures_a_trained_model() -> None:
    subprocess.run([sys.executable, "-c", TRAINING], check=True)
