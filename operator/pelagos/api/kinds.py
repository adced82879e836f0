"""The list of kinds, from which the CRDs, the handlers and the command line are built."""

from __future__ import annotations

from dataclasses import dataclass

from pelagos.api import dataset, meta, model_service, training_run, trial


@dataclass(frozen=True)
class Kind:
    """One kind with its names, types and columns."""

    kind: str
    plural: str
    singular: str
    short: str
    spec: type[meta.RuledSpec]
    status: type[meta.BaseStatus]
    columns: tuple[meta.Column, ...]
    frozen: tuple[str, ...] = ()
    scale: meta.Scale | None = None
    """The paths for scaling; None for a kind without replicas."""

    @property
    def crd(self) -> str:
        """Name of the CustomResourceDefinition."""
        return f"{self.plural}.{meta.GROUP}"


DATASET = Kind("Dataset", "datasets", "dataset", "imgds", dataset.DatasetSpec, dataset.DatasetStatus, dataset.COLUMNS)
TRAINING_RUN = Kind(
    "TrainingRun",
    "trainingruns",
    "trainingrun",
    "trun",
    training_run.TrainingRunSpec,
    training_run.TrainingRunStatus,
    training_run.COLUMNS,
    training_run.FROZEN,
)
MODEL_SERVICE = Kind(
    "ModelService",
    "modelservices",
    "modelservice",
    "msvc",
    model_service.ModelServiceSpec,
    model_service.ModelServiceStatus,
    model_service.COLUMNS,
    scale=model_service.SCALE,
)
TRIAL = Kind("Trial", "trials", "trial", "trial", trial.TrialSpec, trial.TrialStatus, trial.COLUMNS, trial.FROZEN)
KINDS = (DATASET, TRAINING_RUN, MODEL_SERVICE, TRIAL)
