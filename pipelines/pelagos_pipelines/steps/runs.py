"""The common parts of a training's steps: their parameters, their state in the workspace, and the reporting of refusals.

Used by train, evaluate and export; prepare uses its reporting. It must be fast to import: a step that has nothing to do returns
before a framework is loaded.
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from pelagos_contract import disk, event_files, extensions, reports, sealing, text, weights_and_biases
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.splits import Split
from pelagos_contract.training import TrainingRequest
from pelagos_pipelines import output, storage
from pelagos_pipelines.metering import meter as metering
from pelagos_pipelines.metering.meter import Meter
from pelagos_pipelines.steps.telling import Telling
from pelagos_pipelines.storage import Lease, Place
from pelagos_pipelines.training import memory

if TYPE_CHECKING:
    from pelagos_pipelines.training.tracking import Tracker

log = logging.getLogger(__name__)
Message = TypeVar("Message", bound=BaseModel)

TERMINATION_LOG = Path("/dev/termination-log")
"""Exists in every container of Kubernetes."""
LONGEST_LAST_WORDS = 4096
"""Bytes that Kubernetes keeps of the termination log."""
LEASE = ".lease.json"
HISTORY = "history.json"
_PARTS = re.compile(r"^(seeds|trials|groups)/[0-9]+/")
"""Folders of single trainings, each with the layout of a run that has only one."""
_REBUILT = ("ultralytics/", "checkpoints/view/", "checkpoints/data.yaml", "wandb/")
"""Paths that a step can rebuild, and that need not be kept."""


@dataclass(frozen=True)
class Places:
    """The places that a training reads from and writes to."""

    data_root: str
    store: Place
    report: Place
    workspace: Place
    scratch: Path
    lease: Lease | None
    """The lease on the workspace if that is on object storage."""


@dataclass(frozen=True)
class Part:
    """One training of several in a run: its folder in the workspace, and the name of its nested run in MLflow."""

    folder: str
    name: str


@dataclass(frozen=True)
class Run:
    """The parsed parameters of a step; with a ``part``, those of one training of several."""

    request: TrainingRequest
    places: Places
    tracking_uri: str
    tracking_run: str
    meter: Meter
    telling: Telling = field(default_factory=Telling)
    measured: dict[str, Any] = field(default_factory=dict)
    """Fields that a Failure from here on will carry: what the training achieved before it."""
    part: Part | None = None

    @property
    def store(self) -> Path:
        """The folder for model packages."""
        return self.places.store.folder

    @property
    def report(self) -> Path:
        """The folder of the result or the failure."""
        return self.places.report.folder

    @property
    def workspace(self) -> Path:
        """The folder for state that steps leave for later steps, and for their own later attempts."""
        whole = self.places.workspace.folder
        return whole if self.part is None else whole / self.part.folder

    def one_of(self, part: Part, request: TrainingRequest) -> Run:
        """This run as one of its several trainings."""
        return replace(self, request=request, part=part)

    def tracker(self) -> Tracker:
        """A tracker that reports this training to MLflow. Import the training framework before calling this."""
        from pelagos_pipelines.training.tracking import Nested, Tracker

        nested = Nested(self.part.name, self.workspace / "tracked.json") if self.part is not None else None
        return Tracker(self.tracking_uri, self.tracking_run, nested=nested)

    def with_dataset(self, *splits: Split) -> TrainingRequest:
        """The request with its dataset version on this machine. From object storage, only images of ``splits`` are downloaded.

        Raises:
            RefusedError: DATASET_NOT_READABLE.
        """
        dataset = self.request.dataset
        if not storage.is_remote(dataset.uri):
            return self.request
        from pelagos_pipelines.preparation import published

        folder = published.download(dataset.uri, self.places.scratch / "dataset", splits)
        return self.request.model_copy(update={"dataset": dataset.model_copy(update={"uri": str(folder)})})

    def keep(self) -> None:
        """Copy the workspace to safe storage. Raises TakenOverError if another process has taken it over."""
        # Confirmed each time: hours may have passed, and another process may have been started since the last check.
        self.confirm()
        self.places.workspace.push(_is_kept, _rank)

    def confirm(self) -> None:
        """Raise TakenOverError if another process works in the workspace now, and this one must stop."""
        if self.places.lease is not None:
            self.places.lease.confirm()

    def keep_epoch(self) -> bool:
        """Like `keep`, during a training, which continues if the storage is unavailable: later epochs are copied with this one.

        Returns whether the epoch is safe.
        """
        try:
            self.keep()
        except storage.StorageError as error:
            log.warning("the epoch is on this machine only, will be tried again after the next: %s", error)
            return False
        return True

    def finished(self, step: str) -> bool:
        """Whether the step has left its state, in this or an earlier attempt of this run."""
        return self._opened(step) is not None

    def read(self, step: str) -> Any:
        """The state that a finished step has written.

        Raises:
            FileNotFoundError: the step has left none.
            RefusedError: WORKSPACE_ALTERED.
        """
        self._state(step).stat()
        state = self._opened(step)
        if state is None:
            raise altered(f"the outcome of the step {step}")
        return state

    def _opened(self, step: str) -> dict[str, Any] | None:
        return sealing.opened(sealing.document(self._state(step)), sealing.STATE, step=self._claimed(step))

    def note(self, step: str, state: dict[str, Any]) -> None:
        """Write the state of a step, or of a part of one. It becomes safe with the next `keep`."""
        document = sealing.sealed(state, sealing.STATE, step=self._claimed(step))
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        disk.write_atomically(self._state(step), text, parents=True)

    def finish(self, step: str, state: dict[str, Any]) -> None:
        """Write the state of the step, which marks it as finished, and copy it to safe storage."""
        self.note(step, state)
        # The step is finished only once its state is safe: an attempt on another machine would not find it otherwise.
        self.keep()

    def best(self, digest: str) -> Path:
        """The best checkpoint, with this SHA-256, as a private copy, because others may write to the workspace.

        Raises:
            RefusedError: WORKSPACE_ALTERED.
        """
        # Copied first and then compared, so that the file that is loaded later is the one that was compared.
        copy = self.places.scratch / "best" / "best.pt"
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            with disk.written(copy):
                shutil.copyfile(self.checkpoints / "best.pt", copy)
        except FileNotFoundError:
            raise altered("the checkpoint of the best epoch") from None
        if sealing.digest_of(copy) != digest:
            raise altered("the checkpoint of the best epoch")
        return copy

    def forget_strangers(self) -> None:
        """Remove history and checkpoints, all of them, if any of them is not as an attempt of this run has left it."""
        # All or nothing: otherwise a history of other epochs than the checkpoint's, or another best checkpoint, could pass.
        kept = [path for path in (self.history, *sorted(self.checkpoints.rglob("*.pt"))) if path.is_file()]
        if not all(sealing.is_genuine(path) for path in kept):
            log.warning("the workspace was altered by others; the training begins anew")
            for path in kept:
                path.unlink(missing_ok=True)

    @property
    def checkpoints(self) -> Path:
        """The family's folder, with checkpoints, and ``best.pt`` after training."""
        return self.workspace / "checkpoints"

    @property
    def history(self) -> Path:
        """The file with metrics by epoch."""
        return self.workspace / HISTORY

    @property
    def figures(self) -> Path:
        """The folder of pictures for the run's artifacts."""
        return self.workspace / "figures"

    @property
    def events(self) -> Path:
        """The folder of TensorBoard's event files, also for the run's artifacts."""
        return self.workspace / event_files.FOLDER

    @property
    def wandb(self) -> Path:
        """The run directory for Weights & Biases, if requested."""
        return self.workspace / weights_and_biases.FOLDER

    def _state(self, step: str) -> Path:
        return self.workspace / f"{step}.json"

    def _claimed(self, step: str) -> str:
        """The step's name in seals, with the part, so that one training's state is not accepted as another's."""
        return step if self.part is None else f"{self.part.folder}/{step}"


def altered(what: str) -> RefusedError:
    """The refusal of a file in the workspace that this run has not written."""
    return RefusedError(
        Reason.WORKSPACE_ALTERED,
        f"{what} in the workspace of this run is not as it was left: somebody else writes to the storage of this namespace. "
        "Find out who, then set the annotation pelagos.dev/retry to a new value: what was altered is made anew",
    )


def leave(place: Place, result: BaseModel) -> None:
    """Write the result of a run, as its last action."""
    reports.report_result(place.folder, result)
    # The result is uploaded last, because the operator takes everything that it names for complete.
    place.push(lambda path: not path.endswith(".partial"), lambda path: int(path == "result.json"))


def confirm(place: Place, result: BaseModel) -> None:
    """Adopt a valid result of an earlier attempt of this run as this attempt's."""
    if not sealing.is_of_this_attempt(json.loads((place.folder / "result.json").read_bytes())):
        leave(place, result)


def give_back_memory() -> None:
    """Free the memory of a stage, or of one training of several, before the next one begins."""
    # A stage that had nothing to do has loaded no framework, and leaves too little memory for a collection to be worthwhile.
    if "numpy" not in sys.modules:
        return
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@contextmanager
def running(  # noqa: PLR0913, PLR0917 - the parameters of the contract
    request: str, data_root: str, store: str, report: str, workspace: str, tracking_uri: str, tracking_run: str
) -> Iterator[Run]:
    """The run, with its workspace and report on this machine, and environment variables set for the step's frameworks.

    Raises:
        RefusedError: as in `reporting`, which this includes.
        StorageError, TakenOverError: see storage.errors.
    """
    output.guard_output()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    measured: dict[str, Any] = {}
    # The report is opened first, so that any later refusal can be reported there.
    with scratch_for(workspace) as scratch, reporting(report, scratch, measured) as reported:
        kept = Place(workspace, scratch / "workspace")
        kept.folder.mkdir(parents=True, exist_ok=True)
        lease = Lease(kept.bucket, LEASE) if kept.bucket is not None else None
        places = Places(data_root, Place(store, scratch / "store"), reported, kept, scratch, lease)
        # Set before any framework loads, which reads them once. A pod's user has no home, and two runs must not share settings.
        os.environ["YOLO_CONFIG_DIR"] = str(kept.folder / "ultralytics")
        # torch's threads spin while they wait for each other. On a busy machine that makes a step take ten times as long.
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        parsed = understood(TrainingRequest, request)
        # Taken before anything is read: a process of an earlier attempt then stops writing, and what is read stays the same.
        if lease is not None:
            lease.take()
        kept.pull(_is_kept)
        reported.pull()
        telling = Telling(reported)
        with Meter(kept.folder / metering.DOCUMENT, lambda content: _keep_notes(places, content)) as meter:
            try:
                with memory.refusing_beside_training(parsed.hyperparameters):
                    yield Run(parsed, places, tracking_uri, tracking_run, meter, telling, measured)
            except BaseException:
                # A failed attempt has cost something as well.
                measured["cost"] = meter.total()
                raise
        telling.close()


def _keep_notes(places: Places, content: bytes) -> None:
    """Copy the meter's document to safe storage. Raises TakenOverError if another process has the workspace."""
    if places.lease is not None:
        places.lease.confirm()
        places.workspace.write(metering.DOCUMENT, content)


def understood(kind: type[Message], request: str) -> Message:
    """Parse the operator's request, after loading the extensions that it may refer to.

    Raises RefusedError: REQUEST_NOT_UNDERSTOOD.
    """
    try:
        extensions.load(os.environ.get(extensions.VARIABLE, ""), extensions.Plane.DATA)
    except extensions.ExtensionError as error:
        raise RefusedError(
            Reason.REQUEST_NOT_UNDERSTOOD, f"{error}; then set the annotation pelagos.dev/retry to a new value"
        ) from error
    try:
        return kind.model_validate_json(request)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise RefusedError(
            Reason.REQUEST_NOT_UNDERSTOOD,
            f"the image of this step does not understand its request ({field or 'all of it'}: {first['msg']}): it is of another"
            " version than the operator, or lacks an extension that the operator has. Give the operator the trainer image of"
            " its own version (PELAGOS_TRAINER_IMAGE), then set the annotation pelagos.dev/retry to a new value",
        ) from error


@contextmanager
def scratch_for(uri: str) -> Iterator[Path]:
    """A local folder for copies of the place ``uri``, removed after the block.

    It has the same name on every machine, because checkpoints of training frameworks contain paths.
    """
    folder = storage.scratch() / hashlib.sha256(uri.encode()).hexdigest()[:16]
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def reporting(report: str, scratch: Path, measured: Mapping[str, Any] | None = None) -> Iterator[Place]:
    """Write ``failure.json`` for a refusal and raise it again. Other errors pass through: they are bugs or outages.

    ``measured`` has further fields of the failure, read when it is written.
    """
    output.guard_output()
    place: Place | None = None
    fields = {} if measured is None else measured
    with _last_words():
        try:
            place = Place(report, scratch / "report")
            # An earlier attempt's failure is removed at once, so that it is not taken for this attempt's if this process dies.
            place.remove("failure.json")
            yield place
        except RefusedError as refused:
            _report(place, refused, fields)
            raise
        except storage.StorageRefusedError as error:
            by_storage = RefusedError(Reason.STORAGE_REFUSED, str(error))
            _report(place, by_storage, fields)
            raise by_storage from error
        except OSError as error:
            if error.errno not in disk.FULL:
                raise
            words = disk.explain(error, place.folder if place else scratch)
            full = RefusedError(Reason.DISK_FULL, f"{words}; then set the annotation pelagos.dev/retry to a new value")
            _report(place, full, fields)
            raise full from error


@contextmanager
def _last_words() -> Iterator[None]:
    """Write errors to Kubernetes' termination log, which is all that a pipeline server knows about a failed pod."""
    try:
        yield
    except Exception as error:
        words = text.shown(f"{type(error).__name__}: {error}").encode()[:LONGEST_LAST_WORDS]
        if TERMINATION_LOG.exists():
            with suppress(OSError):
                TERMINATION_LOG.write_bytes(words)
        raise


def _report(place: Place | None, refused: RefusedError, measured: Mapping[str, Any]) -> None:
    failure = refused.failure.model_copy(update=dict(measured))
    if place is None:  # the report's own storage refuses us, so only the log remains
        log.error("%s", failure.message)
    elif place.bucket is None:
        try:
            reports.report_failure(place.folder, failure)
        except disk.FullError as error:
            log.error("this could not be reported: %s", error)
    else:
        log.error("%s", failure.message)
        try:
            place.write(reports.FAILURE, reports.rendered(failure))
        except (storage.StorageError, storage.StorageRefusedError) as error:
            log.error("this could not be reported: %s", error)


def _is_kept(path: str) -> bool:
    return not _PARTS.sub("", path).startswith(_REBUILT) and not path.endswith(".partial") and path != LEASE


def _rank(path: str) -> int:
    """The order of uploading, as on a disk: seals, history, checkpoints; states of finished steps last."""
    # Each file is uploaded after those that it depends on, so that the next attempt can continue from whatever a killed process
    # has uploaded: a file without its seal counts as a stranger's, a checkpoint needs the history of its epochs, and a state
    # needs the files that it describes.
    if path.endswith(".seal"):
        return -1
    path = _PARTS.sub("", path)
    if path == HISTORY:
        return 0
    if path.endswith("last.pt"):  # a training continues from it, and restores best.pt from it if that is behind
        return 1
    return 3 if path.endswith(".json") and "/" not in path else 2
