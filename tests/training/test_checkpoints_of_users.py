"""A user's checkpoint is hostile: a child extracts the weights, nothing in it is executed, and refusals say why."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import resource
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.training import Weights
from pelagos_pipelines.training import checkpoints, tensor_files


class Evil:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._trace),)


def refusal(path: Path) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        checkpoints.weights_of(path)
    return caught.value


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_checkpoint_is_named_and_not_executed(tmp_path: Path, zipped: bool, protocol: int) -> None:
    trace, path = tmp_path / "trace", tmp_path / "evil.pt"
    torch.save({"model": Evil(trace)}, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    got = refusal(path)
    assert got.failure.reason is Reason.UNTRUSTED_CHECKPOINT
    assert "mkdir" in got.failure.message
    assert not trace.exists()


def test_a_bare_pickle_with_code_is_untrusted(tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Evil(trace)))
    assert refusal(path).failure.reason is Reason.UNTRUSTED_CHECKPOINT
    assert not trace.exists()


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK\x03\x04" + bytes(99)]
)
def test_another_file_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "picture.pt"
    path.write_bytes(content)
    got = refusal(path)
    assert got.failure.reason is Reason.CHECKPOINT_INVALID
    assert got.failure.field == "model.weights"


def test_a_truncated_checkpoint_is_invalid(tmp_path: Path) -> None:
    path = tmp_path / "cut.pt"
    torch.save({"weight": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    assert refusal(path).failure.reason is Reason.CHECKPOINT_INVALID


def test_tensors_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"weight": torch.zeros(10)}, path)
    found: Any = checkpoints.weights_of(path)
    with pytest.raises(RefusedError, match=r"not one of yolov8n.*features") as caught:
        checkpoints.matching(found, {"features.0.weight": torch.zeros(3)}, "head.", "yolov8n")
    assert caught.value.failure.reason is Reason.CHECKPOINT_INVALID


def test_only_the_head_may_differ() -> None:
    wanted = {"features.weight": torch.zeros(3), "head.weight": torch.zeros(5)}
    found = {"features.weight": torch.ones(3), "head.weight": torch.ones(2), "other": torch.ones(1)}
    assert checkpoints.matching(found, wanted, "head.", "any").keys() == {"features.weight"}


def test_what_was_taken_is_never_read_in_the_middle_of_being_noted_again(tmp_path: Path) -> None:
    """Several trials that start from the same checkpoint may write the note at the same time."""
    found = checkpoints.Found({"features.weight": torch.ones(3)})
    found.path = tmp_path / "start.pt"
    checkpoints.matching(found, {"features.weight": torch.zeros(3)}, "head.", "any")
    first = checkpoints.taken(found.path)
    (note,) = tmp_path.iterdir()
    with note.open(encoding="utf-8") as reader:
        checkpoints.matching(found, {"features.weight": torch.zeros(3), "head.weight": torch.zeros(1)}, "head.", "any")
        assert checkpoints.Taken(**json.loads(reader.read())) == first
    assert checkpoints.taken(found.path) == checkpoints.Taken(1, 2, ["head.weight"], 0)


STATE = {
    "features.weight": torch.arange(24, dtype=torch.float32).reshape(2, 3, 4),
    "features.half": torch.ones(5, dtype=torch.float16) / 3,
    "features.brain": torch.ones(5, dtype=torch.bfloat16) / 3,
    "features.turned": torch.arange(6, dtype=torch.float64).reshape(2, 3).T,
    "features.part": torch.arange(10, dtype=torch.int64)[2:5],
    "features.count": torch.tensor(7),
    "features.none": torch.zeros(0, 3),
    "features.flags": torch.tensor([True, False]),
}


def same(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return found.keys() == wanted.keys() and all(
        torch.equal(found[name], tensor.float() if tensor.is_floating_point() else tensor)
        for name, tensor in wanted.items()
    )


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("key", [None, "model", "state_dict"])
def test_the_tensors_are_those_that_torch_would_load(tmp_path: Path, zipped: bool, key: str | None) -> None:
    path = tmp_path / "a.pt"
    content = STATE if key is None else {"epoch": 3, "optimizer": {"state": {0: torch.ones(3)}}, key: STATE}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)

    assert same(checkpoints.weights_of(path), STATE)


def test_a_module_is_walked_and_not_built(tmp_path: Path) -> None:
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Sequential(torch.nn.Linear(4, 2))
    )
    module[1].register_buffer("passing", torch.ones(3), persistent=False)
    torch.save({"ema": None, "model": module.half(), "train_args": {"imgsz": 64}}, tmp_path / "a.pt")

    assert same(checkpoints.weights_of(tmp_path / "a.pt"), module.state_dict())


def test_a_checkpoint_of_ultralytics_gives_its_weights(tmp_path: Path) -> None:
    from ultralytics.nn.tasks import torch_safe_load

    from serving.detectors import make_checkpoint

    path = make_checkpoint(tmp_path / "best.pt")
    content, _ = torch_safe_load(path)
    module = content.get("ema") or content["model"]

    assert same(checkpoints.weights_of(path), module.float().state_dict())


def test_safetensors_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(safetensors({"w": ("F32", [2, 2], struct.pack("<4f", 1, 2, 3, 4))}))

    assert same(checkpoints.weights_of(tmp_path / "a.pt"), {"w": torch.tensor([[1.0, 2.0], [3.0, 4.0]])})


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]], **changed: Any) -> bytes:
    given = [(name, kind, shape, memoryview(numbers)) for name, (kind, shape, numbers) in tensors.items()]
    content = bytes(tensor_files.write(given))
    for old, new in changed.items():
        content = content.replace(old.encode(), new.encode().ljust(len(old)))
    return content


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 7 + b"\x7f{}",
        struct.pack("<Q", 2**40) + b"{" * 100,
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 200_000) + b"{" * 200_000,
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[1e9],"data_offsets":[0,4]}}    ' + bytes(4),
        struct.pack("<Q", 64) + b'{"a":{"dtype":"F32","shape":[99999999],"data_offsets":[0,4]}}   ' + bytes(4),
        struct.pack("<Q", 64) + b'{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}      ' + bytes(4),
        struct.pack("<Q", 96)
        + b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'[
            :96
        ]
        + bytes(4),
    ],
    ids=range(8),
)
def test_damaged_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    if content != struct.pack("<Q", 2) + b"{}":
        assert refusal(tmp_path / "a.pt").failure.reason is Reason.CHECKPOINT_INVALID
    else:
        assert checkpoints.weights_of(tmp_path / "a.pt") == {}


def rewritten(state: Any, change: Any, method: int = zipfile.ZIP_STORED) -> bytes:
    """A torch checkpoint, each of whose members went through ``change(name, content)``."""
    saved, written = io.BytesIO(), io.BytesIO()
    torch.save(state, saved)
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(written, "w", method, compresslevel=1) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return written.getvalue()


BOMBS = [
    "a tensor of 4 bytes shown as 6 GB",
    "one tensor two thousand times",
    "a member of zeros, packed",
    "a storage shorter than it says",
    "a pickle of millions of nested lists",
    "a pickle that asks for a long text",
    "a pickle that asks for many bytes",
    "a pickle of one number of many bytes",
    "a decimal number of many digits",
]


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    huge = torch.zeros(1).expand(40_000, 40_000)
    saved = io.BytesIO()
    torch.save({"w": huge}, saved)
    many = io.BytesIO()
    one = torch.zeros(1_000_000)
    torch.save({f"w{number}": one for number in range(2_000)}, many)
    return {
        "a tensor of 4 bytes shown as 6 GB": saved.getvalue(),
        "one tensor two thousand times": many.getvalue(),
        "a member of zeros, packed": rewritten(
            {"w": one}, lambda name, old: bytes(300 * 2**20) if name.endswith("data/0") else old, zipfile.ZIP_DEFLATED
        ),
        "a storage shorter than it says": rewritten({"w": one}, lambda name, old: old[:8] if "data/0" in name else old),
        "a pickle of millions of nested lists": b"\x80\x04" + b"]" * 3_000_000,
        "a pickle that asks for a long text": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x.",
        "a pickle that asks for many bytes": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
        "a pickle of one number of many bytes": b"\x80\x02\x8b"
        + struct.pack("<i", 30_000_000)
        + b"\x7f" * 30_000_000
        + b".",
        "a decimal number of many digits": b"L" + b"9" * 5_000_000 + b"L\n.",
    }


@pytest.mark.parametrize("name", BOMBS)
def test_a_checkpoint_bomb_is_refused_and_takes_nothing_here(
    tmp_path: Path, bombs: dict[str, bytes], name: str
) -> None:
    (tmp_path / "a.pt").write_bytes(bombs[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert refusal(tmp_path / "a.pt").failure.reason is Reason.CHECKPOINT_INVALID
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


def test_sizes_are_checked_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELAGOS_MAX_CHECKPOINT_MEBIBYTES", "1")
    torch.save({"w": torch.zeros(300_000)}, tmp_path / "a.pt")

    assert "at most 1048576 are read (the operator's setting PELAGOS_MAX_CHECKPOINT_MEBIBYTES" in str(
        refusal(tmp_path / "a.pt").failure.message
    )


def test_a_file_above_the_ceiling_is_not_even_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELAGOS_MAX_CHECKPOINT_MEBIBYTES", "1")
    with (tmp_path / "a.pt").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(RefusedError, match=r"1099511627776 bytes; at most 1048576 .*PELAGOS_MAX_CHECKPOINT_MEBIBYTES"):
        checkpoints.copy_checkpoint(Weights(path="a.pt"), tmp_path, tmp_path / "taken.pt")
    assert not (tmp_path / "taken.pt").exists()


@pytest.mark.parametrize("line", ["root:x:0:0:root:/root:/bin/bash", "client-key: root:x", "croot\nroot:x"])
def test_words_of_a_refusal_quote_nothing(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.pt").write_text(f"{line}\nroot:x:\n")

    assert "root" not in refusal(tmp_path / "a.pt").failure.message


@pytest.mark.parametrize("path", ["../outside.pt", "/etc/passwd", "link.pt", "folder/../../outside.pt"])
def test_a_path_out_of_the_volume_is_refused(tmp_path: Path, path: str) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (tmp_path / "outside.pt").write_bytes(b"secret")
    (root / "link.pt").symlink_to(tmp_path / "outside.pt")
    with pytest.raises(RefusedError, match="leads out of the data volume"):
        checkpoints.copy_checkpoint(Weights(path=path), root, tmp_path / "taken.pt")
    assert not (tmp_path / "taken.pt").exists()


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"'nothing\.pt' is not a file"):
        checkpoints.copy_checkpoint(Weights(path="nothing.pt"), tmp_path, tmp_path / "taken.pt")


def test_the_sha256_must_be_that_of_the_request(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    taken = checkpoints.copy_checkpoint(Weights(path="a.pt", sha256=digest), tmp_path, tmp_path / "taken" / "a.pt")
    assert taken.read_bytes() == b"content"
    with pytest.raises(RefusedError, match=f"{digest}, but model.weights.sha256 is 00") as caught:
        checkpoints.copy_checkpoint(Weights(path="a.pt", sha256="00" * 32), tmp_path, tmp_path / "taken" / "a.pt")
    assert caught.value.failure.field == "model.weights.sha256"
