"""Names of TensorBoard event files of a training, in its workspace and among the artifacts of the MLflow run."""

from __future__ import annotations

FOLDER = "tensorboard"
TRAINING, EVALUATION = "events.out.tfevents.1.training", "events.out.tfevents.2.evaluation"
"""TensorBoard reads every file whose name contains ``tfevents``; it reads these two in this order."""
NAMES = (TRAINING, EVALUATION)
LARGEST = 64 * 1024**2
"""Most bytes of a file that is fetched; a thousand epochs with a hundred classes take 10 MB."""
