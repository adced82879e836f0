"""A search for hyperparameters: the trials of a run, before its model is trained. Part of the stage train.

Each trial is a separate training, judged by the validation split; the test split is not used. A journal in the workspace records
the trials and how they ended, so that a restarted step continues in the middle of a trial, and repeats none.

Concurrent trials form a round. The hyperparameters of a trial, and whether it is pruned, depend only on earlier rounds, so they
do not depend on which trial of the round ended first.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pelagos_contract import disk
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.search import LONGEST, Search, SearchProgress, Trial, TrialState, better
from pelagos_contract.training import ChosenHyperparameters, TrainingRequest
from pelagos_pipelines.steps.runs import Part, Run
from pelagos_pipelines.steps.side_by_side import HaltedError
from pelagos_pipelines.storage import StorageError, StorageRefusedError
from pelagos_pipelines.training.tracking import TrackingError

if TYPE_CHECKING:
    from pelagos_pipelines.training.training_history import Epoch
    from pelagos_pipelines.training.trials import Tried

JOURNAL, TRIALS = "search-journal", "trials"
"""The state with all trials, and the folder with the files of each."""
MOST_STARTS = 2
"""A trial is given up if its process ended this often without finishing an epoch: most likely the machine ran out of memory."""
_OF_TRIALS = frozenset({Reason.TRAINING_DIVERGED, Reason.OUT_OF_MEMORY})
"""Reasons that a trial's hyperparameters cause. They fail the trial, and not the search."""
INTERRUPTED = "PipelineInterrupted"


class PrunedError(Exception):
    """Ends the training of a trial that is pruned."""


@dataclass(frozen=True)
class Entry:
    """A trial in the journal. ``values`` is the metric by epoch; ``starts`` counts starts since ``epochs`` epochs, 0 if none."""

    number: int
    parameters: dict[str, str]
    state: TrialState = TrialState.RUNNING
    epochs: int = 0
    starts: int = 0
    value: float | None = None
    values: dict[str, float] = field(default_factory=dict)
    reason: str | None = None
    message: str | None = None

    def told(self) -> Trial:
        """The trial's entry for progress reports and results."""
        return Trial(
            number=self.number,
            state=self.state,
            parameters=self.parameters,
            epochs=self.epochs,
            value=self.value,
            reason=self.reason,
            message=self.message,
        )


Train = Callable[[Run, Callable[["Epoch"], None]], None]
"""Trains one trial, or continues it. The passed function is called after each epoch, and may raise PrunedError."""
Together = Callable[[Sequence[Callable[[], None]]], None]
"""Calls all functions, concurrently or not, and starts them in the given order."""


def one_after_the_other(works: Sequence[Callable[[], None]]) -> None:
    """Call the functions one after another, see `Together`."""
    for work in works:
        work()


class Trials:
    """The search of a run. ``at_epoch`` is called with a trial's number and the epoch that it has finished.

    ``together`` runs the trials of a round.
    """

    def __init__(
        self,
        run: Run,
        search: Search,
        train: Train,
        at_epoch: Callable[[int, Epoch], None],
        together: Together = one_after_the_other,
    ) -> None:
        """Read the journal of earlier attempts."""
        self._run, self._search, self._train, self._at_epoch = run, search, train, at_epoch
        self._together = together
        self.metric = search.metric_for(run.request.task)
        self._entries = _journal(run)
        self._now: dict[int, Entry] = {}
        """The present state of running trials. The journal has their state when they were last started."""
        self._tell()

    def best(self) -> Entry | None:
        """The best completed trial, the first among equals; None if none is completed."""
        return _best(self._entries, self.metric)

    def perform(self, ended: Callable[[Entry, Entry | None], None]) -> Entry:
        """Run the remaining trials and return the best one. ``ended`` is called after each, with the best one until then.

        Raises:
            RefusedError: SEARCH_FAILED when none was completed; or a refusal that is not caused by hyperparameters.
        """
        for first in range(0, self._search.size, self._search.width):
            numbers = range(first, min(first + self._search.width, self._search.size))
            before = self._entries[first : numbers.stop]
            again = [entry.number for entry in before if entry.state is TrialState.RUNNING]
            # If the process was killed, it is unknown which of the round's trials caused it. Trials that were restarted without
            # finishing an epoch since then run alone, so that none takes others with it.
            doubtful = [number for number in again if self._started_again(self._entries[number]).starts > 1]
            for number in doubtful:
                self._together([partial(self._perform, number, ended)])
            fresh = numbers[len(before) :]
            for number in fresh:
                self._note(Entry(number, self._proposed(number)))
            going = [*(number for number in again if number not in doubtful), *fresh]
            self._together([partial(self._perform, number, ended) for number in going])
        best = self.best()
        if best is None:
            failed = self._failed()
            # Only a person who has corrected something starts it again, and then all trials must be repeated.
            shutil.rmtree(self._run.workspace / TRIALS, ignore_errors=True)
            self._run.finish(JOURNAL, {"trials": []})
            raise failed
        return best

    def _perform(self, number: int, ended: Callable[[Entry, Entry | None], None]) -> None:
        """Train a trial that was proposed in this attempt or an earlier one."""
        # The start is counted before the training, because a process that is killed in it can record nothing.
        self._note(self._started_again(self._entries[number]))
        if self._entries[number].state is TrialState.RUNNING:
            with self._excusing(number):
                tried = self._tried(self._entries[number])
            self._note(tried)
        ended(self._entries[number], self.best())
        self._forget_weights()

    def done(self, most: int, *, but: int | None = None) -> int:
        """The finished epochs of all trials, except of ``but``. Ended trials count as ``most`` epochs, the most of a trial."""
        return sum(
            entry.epochs if entry.state is TrialState.RUNNING else most
            for entry in self._shown()
            if entry.number != but
        )

    def training(self, entry: Entry) -> Run:
        """The run that trains a trial: the request with its hyperparameters, in a separate folder."""
        request = self._run.request.model_copy(
            update={
                "seeds": [],
                "search": None,
                "hyperparameters": _hyperparameters(self._run.request, self._search, entry, is_trial=True),
            }
        )
        return self._run.one_of(Part(f"{TRIALS}/{entry.number}", f"trial {entry.number}"), request)

    @contextmanager
    def _excusing(self, number: int) -> Iterator[None]:
        """Do not count the start of a trial that failed for another cause: tracker or storage, or another trial that failed."""
        try:
            yield
        except (RefusedError, StorageError, StorageRefusedError, TrackingError, disk.FullError, HaltedError):
            self._entries[number] = replace(self._now.get(number, self._entries[number]), starts=0)
            # The original error matters more. If this note cannot be written, the trial has one start less.
            with suppress(OSError, StorageRefusedError):
                self._run.note(JOURNAL, {"trials": [asdict(each) for each in self._entries]})
                self._run.keep_epoch()
            raise

    def _tried(self, entry: Entry) -> Entry:
        """Train a trial, from its last checkpoint if there is one, and return its final entry."""
        training = self.training(entry)
        before, values = self._before(entry.number), self._values(training)

        def after(epoch: Epoch) -> None:
            from pelagos_pipelines.training import trials

            self._at_epoch(entry.number, epoch)
            if self.metric in epoch.metrics:
                values[epoch.number] = epoch.metrics[self.metric]
            self._now[entry.number] = replace(entry, epochs=epoch.number, value=self._value(training))
            self._tell()
            fit = {number: self._fit(value) for number, value in values.items() if number <= epoch.number}
            if trials.is_hopeless(self._search, fit, before):
                raise PrunedError

        state, reason, message = TrialState.COMPLETED, None, None
        try:
            self._train(training, after)
        except PrunedError:
            state = TrialState.PRUNED
        except RefusedError as refused:
            if refused.failure.reason not in _OF_TRIALS:
                raise
            state, reason = TrialState.FAILED, refused.failure.reason.value
            message = refused.failure.message[:LONGEST]
        value = self._value(training)
        if state is TrialState.COMPLETED and value is None:
            # All other trials would have the same problem, so this fails the search.
            raise RefusedError(
                Reason.SEARCH_FAILED,
                f"trials cannot be compared by {self.metric}: the validation split has nothing that it could be computed from."
                " Name another metric in search.metric, or annotate images of that split",
                "search.metric",
            )
        epochs = self._epochs(training)
        kept = {str(number): each for number, each in self._values(training).items()}
        return replace(entry, state=state, epochs=len(epochs), value=value, values=kept, reason=reason, message=message)

    def _started_again(self, entry: Entry) -> Entry:
        epochs = len(self._epochs(self.training(entry)))
        starts = entry.starts + 1 if epochs <= entry.epochs else 1
        if starts <= MOST_STARTS:
            return replace(entry, epochs=epochs, starts=starts)
        message = (
            f"its process was ended from outside {MOST_STARTS} times in epoch {epochs + 1}; most likely memory ran out"
        )
        return replace(entry, state=TrialState.FAILED, epochs=epochs, reason=INTERRUPTED, message=message)

    def _proposed(self, number: int) -> dict[str, str]:
        from pelagos_pipelines.training import trials

        return trials.proposed(self._search, number, self._before(number))

    def _before(self, number: int) -> list[Tried]:
        from pelagos_pipelines.training.trials import Tried

        known = self._search.known_to(number)
        ended = [
            Tried(
                parameters=entry.parameters,
                state=entry.state,
                value=None if entry.value is None else self._fit(entry.value),
                values={int(epoch): self._fit(value) for epoch, value in entry.values.items()},
            )
            for entry in self._entries[:known]
        ]
        beside = [Tried(entry.parameters, TrialState.RUNNING) for entry in self._entries[known:number]]
        return ended + beside

    def _note(self, entry: Entry) -> None:
        """Write an entry to the journal, before anything else is done with the trial."""
        self._entries[entry.number : entry.number + 1] = [entry]
        self._now.pop(entry.number, None)
        self._run.finish(JOURNAL, {"trials": [asdict(each) for each in self._entries]})
        self._tell()

    def _tell(self) -> None:
        self._run.telling.search(_told(self._search, self.metric, self._shown()))

    def _shown(self) -> list[Entry]:
        return [self._now.get(entry.number, entry) for entry in self._entries]

    def _forget_weights(self) -> None:
        """Remove the weights of ended trials, except the best one's, which may become the model."""
        best = self.best()
        for entry in self._entries:
            if entry.state is not TrialState.RUNNING and entry is not best:
                shutil.rmtree(self.training(entry).checkpoints, ignore_errors=True)

    def _failed(self) -> RefusedError:
        last = next((entry for entry in reversed(self._entries) if entry.message), None)
        told = f"; the last one, with {_listed(last.parameters)}: {last.message}" if last is not None else ""
        return RefusedError(
            Reason.SEARCH_FAILED,
            f"none of {len(self._entries)} trials was completed{told}. Narrow search.space, or ask for more memory",
            "search.space",
        )

    def _fit(self, value: float | None) -> float:
        return float("-inf") if value is None else better(self.metric, value)

    def _value(self, training: Run) -> float | None:
        """The metric of the trial's best epoch, by the same rule that chooses the best weights."""
        from pelagos_pipelines.training.progress import fitness

        epochs = self._epochs(training)
        if not epochs:
            return None
        return max(epochs, key=lambda epoch: fitness(epoch.metrics, training.request.task)).metrics.get(self.metric)

    def _values(self, training: Run) -> dict[int, float]:
        epochs = self._epochs(training)
        return {epoch.number: epoch.metrics[self.metric] for epoch in epochs if self.metric in epoch.metrics}

    @staticmethod
    def _epochs(training: Run) -> list[Epoch]:
        from pelagos_pipelines.training.tracking import Tracker
        from pelagos_pipelines.training.training_history import TrainingHistory

        return TrainingHistory(training.history, Tracker("", "")).epochs


def chosen(run: Run) -> Run:
    """The run with the hyperparameters of its search's best trial; the run itself if there is none."""
    search = run.request.search
    best = None if search is None else _best(_journal(run), search.metric_for(run.request.task))
    if search is None or best is None:
        return run
    found = _hyperparameters(run.request, search, best)
    return replace(run, request=run.request.model_copy(update={"hyperparameters": found}))


def _hyperparameters(
    request: TrainingRequest, search: Search, entry: Entry, *, is_trial: bool = False
) -> ChosenHyperparameters:
    """The request's hyperparameters with those of a trial. The search's epochs apply to trials, and to a model taken from one."""
    usual = request.hyperparameters.model_dump(by_alias=True)
    shorter: Mapping[str, Any] = {}
    if search.epochs is not None and (is_trial or search.then == "TakeBest"):
        shorter = {"epochs": search.epochs}
    return ChosenHyperparameters.model_validate({**usual, **shorter, **entry.parameters})


def told(run: Run) -> SearchProgress | None:
    """The progress of a run's search; None if it has none."""
    search = run.request.search
    return None if search is None else _told(search, search.metric_for(run.request.task), _journal(run))


def _told(search: Search, metric: str, entries: Sequence[Entry]) -> SearchProgress:
    best = _best(entries, metric)
    return SearchProgress(
        metric=metric,
        trials=search.size,
        history=[entry.told() for entry in entries],
        best=best.number if best is not None else None,
    )


def _best(entries: Sequence[Entry], metric: str) -> Entry | None:
    completed = [entry for entry in entries if entry.state is TrialState.COMPLETED and entry.value is not None]
    return max(completed, key=lambda entry: better(metric, entry.value or 0.0), default=None)


def _journal(run: Run) -> list[Entry]:
    kept = run.read(JOURNAL)["trials"] if run.finished(JOURNAL) else []
    return [Entry(**{**one, "state": TrialState(one["state"])}) for one in kept]


def take(training: Run, best: Run) -> bool:
    """Take over the best trial's checkpoint and history for a training with the same inputs. Returns whether that was possible.

    The training would end with the same bytes.
    """
    from pelagos_contract import sealing
    from pelagos_pipelines.training import checkpoints

    same = training.request.model_copy(update={"seeds": [], "search": None})
    if same != best.request or not best.finished("train"):
        return False
    try:
        weights = best.best(best.read("train")["bestSha256"])
    except RefusedError:  # altered by others, so it is trained again
        return False
    if not sealing.is_genuine(best.history):
        return False
    training.checkpoints.mkdir(parents=True, exist_ok=True)
    _copy(weights, training.checkpoints / "best.pt", checkpoints.replace_durably)
    _copy(best.history, training.history, checkpoints.replace_durably)
    return True


def _copy(source: Path, target: Path, replace_durably: Callable[[Path, Path], None]) -> None:
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    replace_durably(partial, target)


def _listed(parameters: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in parameters.items())
