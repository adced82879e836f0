"""A step's reports about its progress: stage, duration and attempt. Reporting never holds up the work."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pelagos_contract import progress, sealing
from pelagos_contract.flows import TRAINING
from pelagos_contract.progress import PERIOD, Progress, Stage
from pelagos_contract.tasks import Task
from pelagos_pipelines.steps import telling
from pelagos_pipelines.steps import train as step_of_training
from pelagos_pipelines.steps.prepare import prepare
from pelagos_pipelines.steps.stages import perform
from pelagos_pipelines.steps.telling import Telling
from pelagos_pipelines.storage import Place
from training.shapes import make_request, make_truth, make_version, store_sample

KEY = "ab" * 32


@pytest.fixture
def attempt(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Make this process seal as the steps of a run's attempt 1 do."""
    for name, value in {sealing.STEP_KEY: KEY, **sealing.step_identity("run", 1)}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock of the code under test: its value is the list's last entry."""
    clock = [100.0]
    monkeypatch.setattr(telling, "time", SimpleNamespace(monotonic=lambda: clock[-1], time=time.time))
    return clock


def told(folder: Path) -> Progress:
    """The progress document as the operator reads it."""
    own = sealing.sealer()
    assert own is not None
    found = progress.parsed((folder / progress.DOCUMENT).read_bytes())
    assert found is not None
    assert found[sealing.SEAL]["attempt"] == own.attempt
    understood = progress.understood(own.unseal(found, sealing.PROGRESS))
    assert understood is not None
    return understood


def stages(found: Progress) -> list[Stage]:
    return [ended.stage for ended in found.ended]


def place(folder: Path) -> Place:
    return Place(str(folder), folder / "scratch")


def parameters(folder: Path, request: str) -> tuple[str, str, str, str, str, str, str]:
    data, store, report, workspace = (str(folder / name) for name in ("data", "models", "report", "workspace"))
    return request, data, store, report, workspace, "", ""


@pytest.mark.usefixtures("attempt")
def test_a_training_goes_through_its_stages_in_one_step_or_two(tmp_path: Path) -> None:
    version = make_version(tmp_path / "dataset", (6, 3, 3), Task.CLASSIFICATION)
    request = make_request("mobilenet_v3_small", *version).model_dump_json(by_alias=True)
    for number, gpus in enumerate((False, True)):
        folder = tmp_path / str(number)
        for step in TRAINING.steps(gpus=gpus):
            perform(step.stages, *parameters(folder, request))
        found = told(folder / "report")

        assert found.stage is None
        assert stages(found) == [Stage.PREPARATION, Stage.TRAINING, Stage.EVALUATION, Stage.EXPORT]
        assert sum(ended.seconds for ended in found.ended) > 0


@pytest.mark.usefixtures("attempt")
def test_a_step_that_breaks_leaves_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = make_version(tmp_path / "dataset", (6, 3, 3), Task.CLASSIFICATION)
    request = make_request("mobilenet_v3_small", *version).model_dump_json(by_alias=True)

    def breaks(*_: Any) -> None:
        raise ZeroDivisionError("gone")

    monkeypatch.setattr(step_of_training, "_describe", breaks)
    with pytest.raises(ZeroDivisionError):
        perform(TRAINING.stages, *parameters(tmp_path, request))

    assert told(tmp_path / "report").stage is Stage.PREPARATION


@pytest.mark.usefixtures("attempt")
def test_a_preparation_counts_the_images_that_it_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split, samples in make_truth(tmp_path / "drawn", (6, 3, 3), Task.CLASSIFICATION).by_split.items():
        for sample in samples:
            store_sample(tmp_path / "data" / "shapes", split, sample, Task.CLASSIFICATION)
    monkeypatch.setattr(telling, "PERIOD", 0.0)
    seen: list[Progress] = []
    real = Telling._tell

    def noted(self: Telling) -> None:
        real(self)
        seen.append(told(tmp_path / "report"))

    monkeypatch.setattr(Telling, "_tell", noted)
    request = {"source": {"volume": {"path": "shapes"}}, "split": {"policy": "Provided"}, "task": "Classification"}
    prepare(json.dumps(request), *(str(tmp_path / name) for name in ("data", "store", "report")))

    assert stages(seen[-1]) == [one for one in progress.OF_DATASETS if one is not Stage.TILING]
    counts = [(one.done, one.total) for one in seen if one.stage is Stage.CHECKING_IMAGES and one.done is not None]
    assert counts == [(number + 1, 12) for number in range(12)]


@pytest.mark.usefixtures("attempt")
def test_of_one_stage_it_tells_seldom_and_of_another_one_at_once(tmp_path: Path, times: list[float]) -> None:
    step = Telling(place(tmp_path))
    step.enter(Stage.EVALUATION, 1000)
    written = []
    for number in range(1000):
        times.append(times[-1] + 0.1)
        step.count(number, 1000)
        written.append((tmp_path / progress.DOCUMENT).stat().st_ino)
    step.enter(Stage.EXPORT)

    assert len(set(written)) <= 100 / PERIOD + 1
    found = told(tmp_path)
    assert (found.stage, stages(found), found.done) == (Stage.EXPORT, [Stage.EVALUATION], None)
    assert found.ended[0].seconds == pytest.approx(100, abs=0.2)


def test_another_attempt_begins_anew_and_another_step_of_the_same_goes_on(
    tmp_path: Path, attempt: pytest.MonkeyPatch
) -> None:
    first = Telling(place(tmp_path))
    first.enter(Stage.TRAINING)
    first.close()
    second = Telling(place(tmp_path))
    second.enter(Stage.EXPORT)
    assert stages(told(tmp_path)) == [Stage.TRAINING]

    attempt.setenv(sealing.STEP_ATTEMPT, "2")
    third = Telling(place(tmp_path))
    third.enter(Stage.TRAINING)
    assert stages(told(tmp_path)) == []


@pytest.mark.usefixtures("attempt")
@pytest.mark.parametrize("content", [b"{", b'{"ended": 1, "seal": 5}', b"[" * 100_000])
def test_what_others_left_there_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / progress.DOCUMENT).write_bytes(content)
    step = Telling(place(tmp_path))
    step.enter(Stage.TRAINING)

    assert told(tmp_path) == Progress(stage=Stage.TRAINING, since=told(tmp_path).since)


def test_a_storage_that_takes_nothing_holds_up_no_work(tmp_path: Path, times: list[float]) -> None:
    (tmp_path / "report").write_text("a file where a folder should be")
    step = Telling(place(tmp_path / "report"))
    for stage in (Stage.TRAINING, Stage.EVALUATION):
        step.enter(stage)
    (tmp_path / "report").unlink()
    step.count(1, 2)
    assert not (tmp_path / "report").exists(), "it is left alone for a while"

    times.append(times[-1] + telling.PAUSE + 1)
    step.count(2, 2)
    assert json.loads((tmp_path / "report" / progress.DOCUMENT).read_text())["stage"] == "Evaluation"
