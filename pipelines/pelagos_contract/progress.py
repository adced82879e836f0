"""Progress of a pipeline run, which its steps report while they work: a small document beside their report, replaced repeatedly.

It is sealed like reports, so that its attempt is known. It is only for people: no decision depends on it.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, ValidationError

from pelagos_contract.base import Strict
from pelagos_contract.search import SearchProgress

DOCUMENT = "progress.json"
LARGEST = 128 * 1024
"""Most bytes of the document; a larger one was not written by our steps."""
PERIOD = 10.0
"""Least number of seconds between two reports of the same stage."""
MOST_STAGES = 16
MOST_LEFT_OUT = 50
"""Largest number of groups that are left out one after the other; a model is trained for each."""
LONGEST_VALUE = 300
"""Most characters of a value by which images are grouped."""
_LATEST = 1e11
_MOST = 10**9
_MOST_BYTES = 2**60


class Stage(StrEnum):
    """The current activity of a run, as shown to people; ``words`` describe it in a sentence."""

    _value_: str
    words: str

    def __new__(cls, value: str, words: str = "") -> Stage:
        """A member equals its name in status. The default exists because mypy takes the look-up ``Stage(name)`` for this call."""
        member = str.__new__(cls, value)
        member._value_, member.words = value, words
        return member

    FETCHING = "Fetching", "the source is being fetched"
    CHECKING_IMAGES = "CheckingImages", "images are being checked"
    READING_ANNOTATIONS = "ReadingAnnotations", "annotations are being read"
    DIVIDING = "Dividing", "images are being cleaned and divided into splits"
    TILING = "Tiling", "large images are being cut into tiles"
    WRITING = "Writing", "the version is being written"
    PREPARATION = "Preparation", "the dataset version is being read and the framework loaded"
    SEARCH = "Search", "hyperparameters are being searched"
    TRAINING = "Training", "epochs are being trained"
    LEAVE_ONE_OUT = "LeaveOneOut", "models that each leave one group out are being trained"
    EVALUATION = "Evaluation", "the model is being measured on the test split"
    EXPORT = "Export", "the model is being exported and verified"
    REGISTRATION = "Registration", "the model is being registered"


OF_DATASETS = (
    Stage.FETCHING,
    Stage.CHECKING_IMAGES,
    Stage.READING_ANNOTATIONS,
    Stage.DIVIDING,
    Stage.TILING,
    Stage.WRITING,
)
OF_TRAININGS = (
    Stage.PREPARATION,
    Stage.SEARCH,
    Stage.TRAINING,
    Stage.LEAVE_ONE_OUT,
    Stage.EVALUATION,
    Stage.EXPORT,
    Stage.REGISTRATION,
)
"""The stages of a training in order. The last one, registration, is done by the operator itself."""


class EndedStage(Strict):
    """A stage that has ended."""

    stage: Stage
    seconds: Annotated[float, Field(ge=0, le=_LATEST, allow_inf_nan=False)]


class SeedState(StrEnum):
    """The state of one training of several."""

    WAITING = "Waiting"
    TRAINING = "Training"
    TRAINED = "Trained"
    EVALUATED = "Evaluated"


class SeedProgress(Strict):
    """One training of several. ``fitness``: the metric of the validation split that chooses the best epoch, of the best one."""

    seed: Annotated[int, Field(ge=0, le=2147483647)]
    state: SeedState
    epoch: Annotated[int | None, Field(ge=0, le=_MOST)] = None
    fitness: Annotated[float | None, Field(allow_inf_nan=False)] = None


class LeftOutState(Strict):
    """The training without the images of one group."""

    value: Annotated[str, Field(max_length=LONGEST_VALUE)]
    state: SeedState
    epoch: Annotated[int | None, Field(ge=0, le=_MOST)] = None


class LeftOutProgress(Strict):
    """The trainings without one group each, by the values of a field."""

    field: Annotated[str, Field(max_length=LONGEST_VALUE)]
    groups: Annotated[list[LeftOutState], Field(max_length=MOST_LEFT_OUT)]


class Progress(Strict):
    """The stage now, none between two steps; ``since`` in Unix time; ``done`` of ``total`` epochs or images, or bytes.

    ``ended`` are the stages of this attempt before it; ``seeds`` the trainings, where there are several; ``search`` the trials;
    ``left_out`` the trainings without one group each.
    """

    stage: Stage | None = None
    since: Annotated[float | None, Field(ge=0, le=_LATEST, allow_inf_nan=False)] = None
    done: Annotated[int | None, Field(ge=0, le=_MOST)] = None
    total: Annotated[int | None, Field(ge=1, le=_MOST)] = None
    bytes_done: Annotated[int | None, Field(ge=0, le=_MOST_BYTES)] = None
    bytes_total: Annotated[int | None, Field(ge=1, le=_MOST_BYTES)] = None
    ended: Annotated[list[EndedStage], Field(max_length=MOST_STAGES)] = []
    seeds: Annotated[list[SeedProgress] | None, Field(max_length=MOST_STAGES)] = None
    search: SearchProgress | None = None
    left_out: LeftOutProgress | None = None


def parsed(content: bytes) -> dict[str, Any] | None:
    """The JSON object in a document; None when it is not one."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def understood(content: object) -> Progress | None:
    """Validate the content of an unsealed document; None when it is invalid."""
    try:
        return Progress.model_validate(content)
    except ValidationError:
        return None
