"""A training that two processes share: as one process would do it, and whatever kills one of them, no process is left behind."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from extension_example import descriptions
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.evaluation.samples import GroundTruth
from pelagos_pipelines.steps import train as train_step
from pelagos_pipelines.training import loop, processes
from pelagos_pipelines.training.families import FAMILIES, Job, Offered
from pelagos_pipelines.training.tracking import Tracker
from pelagos_pipelines.training.training_history import TrainingHistory
from training.finder import Family, FinderLearner
from training.shapes import make_request, make_truth

BOUND = 1e-5
"""How far weights and losses may differ from those of one process; measured differences are 3e-7."""


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> GroundTruth:
    """A number of images for which neither batches nor their parts are of equal size."""
    return make_truth(tmp_path_factory.mktemp("boxes"), (11, 3, 2), Task.DETECTION)


def make_job(folder: Path, truth: GroundTruth) -> tuple[Job, TrainingHistory]:
    folder.mkdir(exist_ok=True)
    request = make_request("yolov8n", epochs=3, batchSize=4, gradientAccumulation=2)
    return Job(request, truth, folder, None), TrainingHistory(folder / "history.json", Tracker("", ""))


def children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    return [int(one) for one in listed.split() if is_program(int(one))]


def is_program(process: int) -> bool:
    """Whether the process exists and is one of ours."""
    try:
        return processes.__name__ in Path(f"/proc/{process}/cmdline").read_text(encoding="utf-8")
    except OSError:
        return False


class Dying(Family):
    """The second process dies in the second epoch, while the first one waits for it."""

    def learner(self, job: Job) -> loop.Learner:
        return DyingLearner(job, noise=0)


class DyingLearner(FinderLearner):
    """A learner that dies if it is in the second process."""

    batches = 0

    def batch(self, chosen: Any, generator: Any) -> Any:
        self.batches += generator is not None
        if torch.distributed.get_rank() == 1 and self.batches > 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(chosen, generator)


class Calling:
    """Unpickling it calls ``called``: a process does so as soon as it receives what to train."""

    def __init__(self, called: Callable[..., Any], *arguments: Any) -> None:
        self.called, self.arguments = called, arguments

    def __reduce__(self) -> Any:
        return self.called, self.arguments


def refuse(message: str) -> None:
    raise RefusedError(Reason.DATASET_NOT_READABLE, message, "dataset.uri")


def test_two_processes_train_as_one_does_and_go_on_after_one_has_died(
    tmp_path: Path, truth: GroundTruth, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, one_history = make_job(tmp_path / "one", truth)
    best = loop.train(Family(noise=0), one, one_history)

    monkeypatch.setenv(processes.VARIABLE, "2")
    two, two_history = make_job(tmp_path / "two", truth)
    with pytest.raises(processes.ProcessFailedError, match=r"process 2 of the 2 .* was ended with SIGKILL; if nobody"):
        loop.train(Dying(), two, two_history)
    assert [row.number for row in two_history.epochs] == [1]
    assert not children(os.getpid())

    assert loop.train(Family(noise=0), two, two_history) == best
    assert not children(os.getpid())
    assert [row.number for row in two_history.epochs] == [1, 2, 3]
    for row, shared in zip(one_history.epochs, two_history.epochs, strict=True):
        assert shared.metrics == pytest.approx(row.metrics, rel=BOUND)
    for name in ("last.pt", "best.pt"):
        weights, shared_weights = (torch.load(job.folder / name, weights_only=True)["model"] for job in (one, two))
        assert weights.keys() == shared_weights.keys()
        for key, tensor in weights.items():
            assert torch.allclose(shared_weights[key].double(), tensor.double(), rtol=0, atol=BOUND), key


def test_what_a_process_refuses_is_what_the_step_refuses(tmp_path: Path, truth: GroundTruth) -> None:
    share: Any = Calling(refuse, "the image is damaged")

    with pytest.raises(RefusedError, match="the image is damaged") as caught:
        processes.train(share, *make_job(tmp_path, truth), 2)
    assert (caught.value.failure.reason, caught.value.failure.field) == (Reason.DATASET_NOT_READABLE, "dataset.uri")
    assert not children(os.getpid())


def test_a_step_that_is_killed_leaves_no_process_behind(tmp_path: Path, truth: GroundTruth) -> None:
    share: Any = Calling(time.sleep, 600)
    arguments = (share, *make_job(tmp_path, truth), 2)
    step = multiprocessing.get_context("fork").Process(target=processes.train, args=arguments)
    step.start()
    assert step.pid is not None
    started = wait_for(lambda: found if len(found := children(step.pid or 0)) == 2 else None)

    step.kill()
    step.join()

    wait_for(lambda: not any(map(is_program, started)))


def wait_for(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@pytest.mark.parametrize(
    ("fates", "want"),
    [
        ({0: ("failed", "ConnectionError: closed"), 1: ("refused", "OutOfMemory", "no memory", "a")}, "no memory"),
        ({0: ("failed", "ConnectionError: closed"), 1: ("died", -9)}, "process 2 of the 2 .* was ended with SIGKILL"),
        ({0: ("died", -11)}, "process 1 of the 2 that share the training was ended with SIGSEGV$"),
        ({1: ("died", 3)}, "process 2 of the 2 that share the training ended with exit code 3; see the log"),
        (
            {1: ("failed", "ValueError: no"), 0: ("failed", "ConnectionError: closed")},
            "2 of the 2 .* failed: ValueError: no",
        ),
        ({0: ("full", errno.ENOSPC, "No space left on device", "last.pt")}, "No space left on device: 'last.pt'"),
    ],
)
def test_the_step_ends_of_what_was_the_cause_of_the_rest(fates: dict[int, Any], want: str) -> None:
    failed: Any = [SimpleNamespace(rank=rank, fate=fate) for rank, fate in fates.items()]

    with pytest.raises(Exception, match=want):
        raise processes._cause(failed, 2)


@pytest.mark.parametrize("offer", tuple(FAMILIES), ids=lambda offer: offer.name)
def test_a_family_that_says_it_uses_several_gpus_can_share_a_training(offer: Offered) -> None:
    family = offer.load()
    assert hasattr(family, "learner") or hasattr(family, "share") or not offer.description.several_gpus


def test_on_processors_one_process_trains_whatever_number_of_gpus_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    request = make_request("yolov8n", resources={"cpu": 2, "gpus": 4})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert processes.wanted(request) == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for there, want in ((1, 1), (2, 2), (8, 4)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda there=there: there)
        assert processes.wanted(request) == want
    assert processes.wanted(make_request("yolov8n")) == 1


def test_the_record_says_how_many_share_it_and_nothing_that_nobody_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    shared = make_request("mobilenet_v2", resources={"cpu": 2, "gpus": 2}, warmupEpochs=0)
    with descriptions.registered():
        FAMILIES.register(Offered(descriptions.FAMILY, "extension_example.family"))
        alone = make_request("tiny_cnn", resources={"cpu": 2, "gpus": 2})
        found = train_step._processes(shared), train_step._processes(alone)
        FAMILIES.withdraw(descriptions.FAMILY.name)
    assert found == ("2", "1")
    # The next attempt may have other GPUs, and a parameter that MLflow holds cannot be changed.
    assert (
        not {"processes", "gpus", "gradientAccumulation", "learningRateSchedule"} & train_step.parameters(shared).keys()
    )
    assert train_step.parameters(shared)["warmupEpochs"] == "0"
