"""Where a training leaves what TensorBoard reads: names of files, in the workspace and among the artifacts of the MLflow run."""

from __future__ import annotations

FOLDER = "tensorboard"
TRAINING, EVALUATION = "events.out.tfevents.1.training", "events.out.tfevents.2.evaluation"
"""TensorBoard takes every file for one of events that has ``tfevents`` in its name, and reads them in this order."""
NAMES = (TRAINING, EVALUATION)
LARGEST = 64 * 1024**2
"""Bytes of one that is fetched: a thousand epochs of a hundred classes are 10 MB."""
