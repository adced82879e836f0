"""Everything that passes read back from the status of their own resource, and why asking the systems does not suffice.

All other status is a conclusion, which every pass draws again. A status can be restored from a backup, or written by others. So
what gives access to a folder, or names what is ours, counts only under our seal or within the namespace's own part of the store.
Conditions are also read, for the times of their transitions (reporting) and for what was reported last (announcing).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pelagos.api.dataset import Publication, Removals
from pelagos.api.search import SearchStatus
from pelagos.api.stages import StageProgress
from pelagos.api.training_run import LeaveOneOutStatus, ModelStatus, SeedStatus
from pelagos.api.trial import ENDED, TrialStatus
from pelagos.decisions import attempts
from pelagos.decisions.dataset import identity
from pelagos.ports.cluster import Resource
from pelagos.ports.pipelines import PipelineRun, RunName

Told = TypeVar("Told", bound=StageProgress)


@dataclass(frozen=True)
class Recalled:
    """The contents of the status of one resource. Every property is None or empty where it says nothing."""

    resource: Resource

    def run(self, name: RunName) -> PipelineRun | None:
        """The run of this name as status has it.

        Engines delete their records of runs after some time. A run that succeeded must still count then, and one that failed must
        not be retried unless a person asks.
        """
        return attempts.recalled(self.resource.status, name)

    def known(self, run: PipelineRun | None, name: RunName) -> PipelineRun | None:
        """The run as the engine knows it, with the end as in status; from status alone if the engine has forgotten it."""
        return attempts.as_it_ended(run, self.resource.status) if run is not None else self.run(name)

    @property
    def retry_key(self) -> str:
        """The retry key of that run: a record may have been made under an earlier one."""
        return str((self.resource.status.get("pipelineRun") or {}).get("retryKey", ""))

    @property
    def inputs_digest(self) -> Any:
        """Dataset: superseded runs exist only after it has changed, so they need not be listed in every pass.

        TrainingRun: shows that ``inputs`` and ``dataset`` are unaltered, and is covered by the seal in ``tracking``.
        """
        return self.resource.status.get("inputsDigest")

    def progress(self, kind: type[Told]) -> Told | None:
        """What steps reported last remains in status, as does the number of epochs while MLflow does not answer."""
        stated = self.resource.status.get("progress")
        return kind.model_validate(stated, extra="ignore") if stated else None

    @property
    def seeds(self) -> tuple[SeedStatus, ...]:
        """TrainingRun: the progress of each of several trainings, kept like ``progress``."""
        stated = self.resource.status.get("seeds") or ()
        return tuple(SeedStatus.model_validate(each, extra="ignore") for each in stated)

    @property
    def search(self) -> SearchStatus | None:
        """TrainingRun: the progress of its search, also kept, so that its findings survive if the run ends at its deadline."""
        stated = self.resource.status.get("search")
        return SearchStatus.model_validate(stated, extra="ignore") if stated else None

    @property
    def leave_one_out(self) -> LeaveOneOutStatus | None:
        """TrainingRun: the progress of the models that are each trained without one group, kept like ``progress``."""
        stated = self.resource.status.get("leaveOneOut")
        return LeaveOneOutStatus.model_validate(stated, extra="ignore") if stated else None

    @property
    def storage_prefix(self) -> Any:
        """Where the resource began to store. Its objects stay there, even if the tenant settings change."""
        return self.resource.status.get("storagePrefix")

    @property
    def storage_seal(self) -> Any:
        """Vouches for ``storage_prefix``."""
        return self.resource.status.get("storageSeal")

    @property
    def earlier(self) -> identity.Earlier | None:
        """Dataset: the recipe and algorithms that the last run was keyed by. An upgrade must not prepare the version again."""
        return identity.earlier(self.resource.status)

    @property
    def algorithms(self) -> Any:
        """TrainingRun: the algorithms that the model was made by. An upgrade must not train it again."""
        return self.resource.status.get("algorithms")

    @property
    def record(self) -> Any:
        """Where the result was put on record, so that the record need not be read in every pass."""
        return self.resource.status.get("record")

    @property
    def metadata_digest(self) -> Any:
        """Dataset: shows whether ``record`` has the metadata of the present spec."""
        return self.resource.status.get("metadataDigest")

    @property
    def store(self) -> Any:
        """Dataset: the folder of its versions. A former life may have put them into one of another uid."""
        return self.resource.status.get("store")

    @property
    def versions(self) -> tuple[Mapping[str, Any], ...]:
        """Dataset: its versions, newest first. Nothing else knows which was the newest at what time."""
        return tuple(self.resource.status.get("versions") or ())

    @property
    def removals(self) -> Removals:
        """Dataset: versions being removed, announced here before their removal begins; totals of earlier removals."""
        stated = self.resource.status.get("removals")
        return Removals.model_validate(stated, extra="ignore") if stated else Removals()

    @property
    def publication(self) -> Publication | None:
        """Dataset: the last publication, since no pass asks the repository, and since when publishing has been stuck."""
        stated = self.resource.status.get("publication")
        return Publication.model_validate(stated, extra="ignore") if stated else None

    @property
    def version(self) -> Any:
        """Dataset: shows whether ``record`` is that of the present result."""
        return self.resource.status.get("version")

    @property
    def inputs(self) -> Any:
        """TrainingRun: the frozen inputs, since spec and Dataset may have changed. Also kept in the tracked run's tags."""
        return self.resource.status.get("inputs")

    @property
    def dataset(self) -> Any:
        """TrainingRun: the dataset version that was frozen with ``inputs``."""
        return self.resource.status.get("dataset")

    @property
    def tracking(self) -> Mapping[str, Any]:
        """TrainingRun: which tracked run is ours, under our seal. Anyone who can write to MLflow can remove a run's tags."""
        return self.resource.status.get("tracking") or {}

    @property
    def trained_model(self) -> ModelStatus | None:
        """TrainingRun: the model, so that its name and version remain known while the registry does not answer."""
        stated = self.resource.status.get("model")
        return ModelStatus.model_validate(stated, extra="ignore") if stated else None

    @property
    def model(self) -> Mapping[str, Any]:
        """TrainingRun: the name that it registered under, in case spec no longer names one.

        ModelService: the model served last, which stays served while its reference cannot be resolved; and which model has
        answered correctly.
        """
        return self.resource.status.get("model") or {}

    @property
    def url(self) -> Any:
        """ModelService: the published address. A new one is published before the server at the old one is stopped."""
        return self.resource.status.get("url")

    @property
    def has_login(self) -> bool:
        """ModelService: whether the gateway was given a login for its servers: it reaches them, and they have no gRPC."""
        endpoints = self.resource.status.get("endpoints") or {}
        return bool(endpoints.get("gatewayHttp")) and not endpoints.get("grpc")

    @property
    def trial(self) -> TrialStatus:
        """Trial: the decision, which is final, and when it opened, which nothing else knows."""
        return TrialStatus.model_validate(self.resource.status, extra="ignore")

    @property
    def is_decided_trial(self) -> bool:
        """Trial: whether it was accepted or refused."""
        return bool(self.resource.status.get("acceptedAt")) or self.resource.status.get("phase") in ENDED

    @property
    def served_generation(self) -> Any:
        """ModelService: the generation of spec that the server was started for, which the server itself does not know."""
        return self.resource.status.get("servedGeneration")
