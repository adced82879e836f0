"""What the steps of a run leave for each other in storage that others can write to is trusted only under the run's seal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pelagos_contract import sealing
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.sources import VolumeSource
from pelagos_pipelines.metering.meter import Meter
from pelagos_pipelines.steps import evaluate, runs
from pelagos_pipelines.storage import Place
from pelagos_pipelines.training import checkpoints
from training.shapes import make_request

KEY = "11" * 32


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sealing.STEP_KEY, KEY)
    monkeypatch.setenv(sealing.STEP_RUN, "training-1")
    monkeypatch.setenv(sealing.STEP_ATTEMPT, "1")


@pytest.fixture
def run(tmp_path: Path) -> runs.Run:
    places = runs.Places(
        data_root=str(tmp_path),
        store=Place(str(tmp_path / "store"), tmp_path),
        report=Place(str(tmp_path / "report"), tmp_path),
        workspace=Place(str(tmp_path / "workspace"), tmp_path),
        scratch=tmp_path / "scratch",
        lease=None,
    )
    (tmp_path / "workspace" / "checkpoints").mkdir(parents=True)
    return runs.Run(None, places, "", "", Meter(tmp_path / "cost.json"))  # type: ignore[arg-type]


def write(path: Path, content: bytes) -> None:
    """Write a checkpoint as families do."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    checkpoints.replace_durably(partial, path)


def test_a_later_attempt_finds_what_an_earlier_one_left(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.finish("train", {"epochs": 3})
    monkeypatch.setenv(sealing.STEP_ATTEMPT, "2")

    assert run.finished("train")
    assert run.read("train") == {"epochs": 3}


UNUSABLE = {
    "no JSON": "{",
    "no object": "[]",
    "nested too deeply": "[" * 100_000,
    "nested as deeply as can be read": f'{{"found": {"[" * 960}{"]" * 960}, "seal": {{"attempt": 1, "mac": "v1:00"}}}}',
    "a number of thousands of digits": "1" * 6000,
}


@pytest.mark.parametrize("content", UNUSABLE.values(), ids=UNUSABLE)
def test_what_nobody_can_read_is_not_what_an_attempt_left(run: runs.Run, content: str) -> None:
    write(run.checkpoints / "last.pt", b"weights")
    for name in ("train.json", "checkpoints/.last.pt.seal"):
        (run.workspace / name).write_text(content)

    assert not run.finished("train")
    with pytest.raises(RefusedError, match="the outcome of the step train"):
        run.read("train")
    assert not sealing.is_genuine(run.checkpoints / "last.pt")


@pytest.mark.parametrize(
    "forged",
    [
        {"epochs": 9},
        {"epochs": 9, "seal": {"attempt": 1, "mac": "v1:00"}},
        {"epochs": 9, "seal": "é"},
        [],
        None,
    ],
)
def test_a_state_that_others_wrote_finishes_no_step_and_is_not_read(run: runs.Run, forged: object) -> None:
    run.finish("train", {"epochs": 3})
    file = run.workspace / "train.json"
    if isinstance(forged, dict) and "seal" not in forged:
        forged = json.loads(file.read_text()) | forged
    file.write_text(json.dumps(forged))

    assert not run.finished("train")
    with pytest.raises(RefusedError) as caught:
        run.read("train")
    assert caught.value.failure.reason is Reason.WORKSPACE_ALTERED
    assert "pelagos.dev/retry" in caught.value.failure.message


def test_a_state_of_another_step_or_run_is_none_of_this(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.finish("train", {"epochs": 3})
    (run.workspace / "train.json").rename(run.workspace / "evaluation.json")
    assert not run.finished("evaluation")
    (run.workspace / "evaluation.json").rename(run.workspace / "train.json")
    monkeypatch.setenv(sealing.STEP_RUN, "training-2")
    assert not run.finished("train")


def test_the_best_checkpoint_is_the_one_that_training_left(run: runs.Run) -> None:
    best = run.checkpoints / "best.pt"
    write(best, b"weights")
    digest = sealing.digest_of(best)
    copy = run.best(digest)
    assert copy.read_bytes() == b"weights"
    assert not copy.is_relative_to(run.workspace)

    best.write_bytes(b"theirs")
    with pytest.raises(RefusedError, match="the checkpoint of the best epoch in the workspace"):
        run.best(digest)
    best.unlink()
    with pytest.raises(RefusedError, match="the checkpoint of the best epoch in the workspace"):
        run.best(digest)


@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
def test_a_training_does_not_go_on_from_a_checkpoint_of_others(run: runs.Run, name: str) -> None:
    files = [run.checkpoints / known for known in ("last.pt", "best.pt")]
    for file in files:
        write(file, file.name.encode())
    run.forget_strangers()
    assert all(file.exists() for file in files)

    (run.checkpoints / name).write_bytes(b"theirs")
    run.forget_strangers()
    assert not any(file.exists() for file in files)


def test_a_crash_between_seal_and_file_leaves_a_checkpoint_that_is_believed(run: runs.Run) -> None:
    last = run.checkpoints / "last.pt"
    write(last, b"epoch 1")
    partial = last.with_name(".last.pt.partial")
    partial.write_bytes(b"epoch 2")
    sealing.vouch(last, sealing.digest_of(partial))  # the process dies here

    run.forget_strangers()
    assert last.read_bytes() == b"epoch 1"
    partial.replace(last)
    run.forget_strangers()
    assert last.read_bytes() == b"epoch 2"


def test_without_a_key_a_step_takes_what_is_there(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sealing.STEP_KEY)
    run.finish("train", {"epochs": 3})
    (run.checkpoints / "last.pt").write_bytes(b"weights")
    run.forget_strangers()

    assert run.read("train") == {"epochs": 3}
    assert (run.checkpoints / "last.pt").exists()


def test_a_result_of_an_earlier_attempt_becomes_one_of_this(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    place, result = run.places.report, VolumeSource(path="frames")
    runs.leave(place, result)
    file = place.folder / "result.json"
    first = file.stat().st_mtime_ns
    runs.confirm(place, result)
    assert file.stat().st_mtime_ns == first

    monkeypatch.setenv(sealing.STEP_ATTEMPT, "2")
    runs.confirm(place, result)

    document = json.loads(file.read_bytes())
    assert document["seal"]["attempt"] == 2
    assert sealing.opened(document) == {"path": "frames"}


def test_a_checkpoint_that_was_made_anew_is_measured_anew(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training on a GPU does not repeat its bytes: with the old measurement, every attempt's export would refuse them."""
    measured = []

    def measure(run: runs.Run) -> None:
        measured.append(run.read("train")["bestSha256"])
        run.finish("measurement", {"bestSha256": measured[-1]})

    monkeypatch.setattr(evaluate, "_measure", measure)
    monkeypatch.setattr(evaluate, "_tell", lambda run, _: run.finish("evaluation", run.read("measurement")))
    asked = replace(run, request=make_request("mobilenet_v3_small"))
    for digest in ("first", "first", "second"):
        asked.finish("train", {"bestSha256": digest})
        evaluate.stage(asked)

    assert measured == ["first", "second"]
    assert asked.read("evaluation") == {"bestSha256": "second"}
