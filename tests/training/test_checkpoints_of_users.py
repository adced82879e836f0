"""A checkpoint of a user is hostile: it is verified, read by loaders that execute nothing, and refused in words."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from pelagos_pipelines.contract import Reason, RefusedError, Weights
from pelagos_pipelines.training import checkpoints, mobilenet, yolov8

LOADERS = [mobilenet._weights, yolov8._weights]


class Evil:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._trace),)


def refusal(path: Path, loader: Any) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        checkpoints.guarded(path, loader)
    return caught.value


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_checkpoint_is_named_and_not_executed(
    tmp_path: Path, loader: Any, zipped: bool, protocol: int
) -> None:
    trace, path = tmp_path / "trace", tmp_path / "evil.pt"
    torch.save({"model": Evil(trace)}, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    got = refusal(path, loader)
    assert got.failure.reason is Reason.UNTRUSTED_CHECKPOINT
    assert "mkdir" in got.failure.message
    assert not trace.exists()


@pytest.mark.parametrize("loader", LOADERS)
def test_a_bare_pickle_with_code_is_untrusted(tmp_path: Path, loader: Any) -> None:
    trace, path = tmp_path / "trace", tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Evil(trace)))
    assert refusal(path, loader).failure.reason is Reason.UNTRUSTED_CHECKPOINT
    assert not trace.exists()


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK\x03\x04" + bytes(99)]
)
def test_another_file_is_no_checkpoint(tmp_path: Path, loader: Any, content: bytes) -> None:
    path = tmp_path / "picture.pt"
    path.write_bytes(content)
    got = refusal(path, loader)
    assert got.failure.reason is Reason.CHECKPOINT_INVALID
    assert got.failure.field == "model.weights.path"


@pytest.mark.parametrize("loader", LOADERS)
def test_a_truncated_checkpoint_is_invalid(tmp_path: Path, loader: Any) -> None:
    path = tmp_path / "cut.pt"
    torch.save({"weight": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    assert refusal(path, loader).failure.reason is Reason.CHECKPOINT_INVALID


@pytest.mark.parametrize("loader", LOADERS)
def test_tensors_of_another_architecture_are_refused(tmp_path: Path, loader: Any) -> None:
    path = tmp_path / "other.pt"
    torch.save({"weight": torch.zeros(10)}, path)
    found: Any = checkpoints.guarded(path, loader)
    with pytest.raises(RefusedError, match=r"not one of yolov8n.*features") as caught:
        checkpoints.matching(found, {"features.0.weight": torch.zeros(3)}, "head.", "yolov8n")
    assert caught.value.failure.reason is Reason.CHECKPOINT_INVALID


def test_only_the_head_may_differ() -> None:
    wanted = {"features.weight": torch.zeros(3), "head.weight": torch.zeros(5)}
    found = {"features.weight": torch.ones(3), "head.weight": torch.ones(2), "other": torch.ones(1)}
    assert checkpoints.matching(found, wanted, "head.", "any").keys() == {"features.weight"}


@pytest.mark.parametrize("path", ["../outside.pt", "/etc/passwd", "link.pt", "folder/../../outside.pt"])
def test_a_path_out_of_the_volume_is_refused(tmp_path: Path, path: str) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (tmp_path / "outside.pt").write_bytes(b"secret")
    (root / "link.pt").symlink_to(tmp_path / "outside.pt")
    with pytest.raises(RefusedError, match="leads out of the data volume"):
        checkpoints.take(Weights(path=path), root, tmp_path / "taken.pt")
    assert not (tmp_path / "taken.pt").exists()


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"'nothing\.pt' is not a file"):
        checkpoints.take(Weights(path="nothing.pt"), tmp_path, tmp_path / "taken.pt")


def test_the_sha256_must_be_that_of_the_request(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    taken = checkpoints.take(Weights(path="a.pt", sha256=digest), tmp_path, tmp_path / "taken" / "a.pt")
    assert taken.read_bytes() == b"content"
    with pytest.raises(RefusedError, match=f"{digest}, but model.weights.sha256 is 00") as caught:
        checkpoints.take(Weights(path="a.pt", sha256="00"), tmp_path, tmp_path / "taken" / "a.pt")
    assert caught.value.failure.field == "model.weights.sha256"
