"""What passes read back from the status of their own resource: all of it, and why asking the systems themselves does not suffice.

A status is otherwise a conclusion, which the next pass draws anew. It can be restored from a backup, or written by others: what
opens a folder or names what is ours counts only under our seal, or where it leads into the namespace's own part of the store.
Besides, conditions are read for the time of their transitions (reporting) and for what was said last (announcing).
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
    """Of one resource; every property is None, or empty, where its status does not say."""

    resource: Resource

    def run(self, name: RunName) -> PipelineRun | None:
        """Engines keep records of runs for a while only: what was done is done, what had failed is not tried again unasked."""
        return attempts.recalled(self.resource.status, name)

    def known(self, run: PipelineRun | None, name: RunName) -> PipelineRun | None:
        """What the engine knows of the run of this name, and what it knew when the run ended."""
        return attempts.as_it_ended(run, self.resource.status) if run is not None else self.run(name)

    @property
    def retry_key(self) -> str:
        """Of that run: a record may answer to an earlier one."""
        return str((self.resource.status.get("pipelineRun") or {}).get("retryKey", ""))

    @property
    def inputs_digest(self) -> Any:
        """Dataset: only a change of it leaves runs that are superseded, and spares listing them in every pass.
        TrainingRun: tells that ``inputs`` and ``dataset`` are unaltered, and is what the seal of ``tracking`` is of."""
        return self.resource.status.get("inputsDigest")

    def progress(self, kind: type[Told]) -> Told | None:
        """What steps told last stays told; and while MLflow does not answer, how many epochs there were."""
        stated = self.resource.status.get("progress")
        return kind.model_validate(stated, extra="ignore") if stated else None

    @property
    def seeds(self) -> tuple[SeedStatus, ...]:
        """TrainingRun: likewise how far each of several trainings was."""
        stated = self.resource.status.get("seeds") or ()
        return tuple(SeedStatus.model_validate(each, extra="ignore") for each in stated)

    @property
    def search(self) -> SearchStatus | None:
        """TrainingRun: likewise of its search, so that what was found stays known when the run is ended by its deadline."""
        stated = self.resource.status.get("search")
        return SearchStatus.model_validate(stated, extra="ignore") if stated else None

    @property
    def leave_one_out(self) -> LeaveOneOutStatus | None:
        """TrainingRun: likewise of models without one group each."""
        stated = self.resource.status.get("leaveOneOut")
        return LeaveOneOutStatus.model_validate(stated, extra="ignore") if stated else None

    @property
    def storage_prefix(self) -> Any:
        """What is stored stays where it was put, whatever the tenant settings say later."""
        return self.resource.status.get("storagePrefix")

    @property
    def storage_seal(self) -> Any:
        """Vouches for ``storage_prefix``."""
        return self.resource.status.get("storageSeal")

    @property
    def earlier(self) -> identity.Earlier | None:
        """Dataset: by which recipe and algorithms the last run was keyed: an upgrade must not make it again."""
        return identity.earlier(self.resource.status)

    @property
    def algorithms(self) -> Any:
        """TrainingRun: by which algorithms the model was made: an upgrade must not train it again."""
        return self.resource.status.get("algorithms")

    @property
    def record(self) -> Any:
        """Where the result was put on record: spares reading it there in every pass."""
        return self.resource.status.get("record")

    @property
    def metadata_digest(self) -> Any:
        """Dataset: tells whether the metadata that ``record`` has is that of the present spec."""
        return self.resource.status.get("metadataDigest")

    @property
    def store(self) -> Any:
        """Dataset: a former life may have put its versions into a folder of another uid."""
        return self.resource.status.get("store")

    @property
    def versions(self) -> tuple[Mapping[str, Any], ...]:
        """Dataset: nobody else knows which version was the newest when."""
        return tuple(self.resource.status.get("versions") or ())

    @property
    def removals(self) -> Removals:
        """Dataset: which versions are being removed, and that this was said before it began; sums of what was removed."""
        stated = self.resource.status.get("removals")
        return Removals.model_validate(stated, extra="ignore") if stated else Removals()

    @property
    def publication(self) -> Publication | None:
        """Dataset: what was published last, which no pass asks the repository; and since when that is stuck."""
        stated = self.resource.status.get("publication")
        return Publication.model_validate(stated, extra="ignore") if stated else None

    @property
    def version(self) -> Any:
        """Dataset: tells whether ``record`` is that of the present result."""
        return self.resource.status.get("version")

    @property
    def inputs(self) -> Any:
        """TrainingRun: what was frozen, which spec and Dataset may say otherwise since; in the tracked run's tags, too."""
        return self.resource.status.get("inputs")

    @property
    def dataset(self) -> Any:
        """TrainingRun: the version that was frozen with ``inputs``."""
        return self.resource.status.get("dataset")

    @property
    def tracking(self) -> Mapping[str, Any]:
        """TrainingRun: which run is ours, under our seal. Anybody who writes to MLflow can take the tags off one."""
        return self.resource.status.get("tracking") or {}

    @property
    def trained_model(self) -> ModelStatus | None:
        """TrainingRun: name and version stay known while the registry does not answer."""
        stated = self.resource.status.get("model")
        return ModelStatus.model_validate(stated, extra="ignore") if stated else None

    @property
    def model(self) -> Mapping[str, Any]:
        """TrainingRun: the name that it registered under, for when spec names none any more.
        ModelService: what was served last stays served while its reference is away; and of what an answer was right."""
        return self.resource.status.get("model") or {}

    @property
    def url(self) -> Any:
        """ModelService: clients are told the address of what takes over before what had the other one goes."""
        return self.resource.status.get("url")

    @property
    def trial(self) -> TrialStatus:
        """Trial: what was decided is final; and nobody else knows when it opened."""
        return TrialStatus.model_validate(self.resource.status, extra="ignore")

    @property
    def is_decided_trial(self) -> bool:
        """Trial: whether it was accepted or refused."""
        return bool(self.resource.status.get("acceptedAt")) or self.resource.status.get("phase") in ENDED

    @property
    def served_generation(self) -> Any:
        """ModelService: the server does not know which generation of spec it was started for."""
        return self.resource.status.get("servedGeneration")
