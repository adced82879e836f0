"""Checkpoints as frameworks write them, which is what people have: read without the framework's classes, and described."""

from __future__ import annotations

import argparse
import datetime
import io
import logging
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.preparation import versions
from pelagos_pipelines.training import checkpoints, torchvision_networks, yolov8, yolov8_cls
from pelagos_pipelines.training.checkpoints import Found
from training.shapes import make_version

SMALL = "mobilenet_v3_small"


def loaded_by_torch(path: Path) -> dict[str, Any]:
    """The file as the framework itself unpickles it; only for files that this test wrote."""
    content = torch.load(path, map_location="cpu", weights_only=False)
    found: Any = content
    if isinstance(content, dict):
        found = content.get("ema") or content.get("model") or content
    return dict(found.state_dict() if isinstance(found, nn.Module) else found)


def require_same(found: Found, wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor.float() if tensor.is_floating_point() else tensor), name
        assert found[name].dtype != torch.float16, "half precision is converted"


@pytest.mark.parametrize("architecture", ["yolov8n", "yolov8n-cls"])
@pytest.mark.parametrize("zipped", [True, False])
def test_what_ultralytics_saves_gives_its_weights(tmp_path: Path, architecture: str, zipped: bool) -> None:
    path = tmp_path / f"{architecture}.pt"
    YOLO(f"{architecture}.yaml").save(path)  # like the official files: a pickled model in half precision
    if not zipped:
        content = torch.load(path, weights_only=False)
        torch.save(content, path, _use_new_zipfile_serialization=False)  # with the source code of each class

    found = checkpoints.weights_of(path)

    require_same(found, loaded_by_torch(path))
    if architecture == "yolov8n":
        wanted, head = DetectionModel("yolov8n.yaml", nc=2, verbose=False).state_dict(), yolov8.HEAD
    else:
        wanted, head = yolov8_cls.build(architecture, 2).state_dict(), yolov8_cls.FAMILY.networks.head
    fitting = checkpoints.matching(found, wanted, head, architecture)
    assert {name for name in wanted if head not in name} <= fitting.keys()


def test_what_the_trainer_of_ultralytics_leaves_gives_the_averaged_weights(tmp_path: Path) -> None:
    uri, _ = make_version(tmp_path / "version", (2, 2, 2), Task.DETECTION)
    versions.materialise(uri, "yolo", tmp_path / "view")
    (tmp_path / "data.yaml").write_text(
        f"path: {tmp_path / 'view'}\ntrain: images/train\nval: images/validation\nnames: [disc, square]\n"
    )
    told: dict[str, Any] = {"data": str(tmp_path / "data.yaml"), "model": "yolov8n.yaml", "epochs": 1, "imgsz": 32}
    quick = {"batch": 2, "workers": 0, "device": "cpu", "plots": False, "val": False, "amp": False, "pretrained": False}
    trainer = DetectionTrainer(overrides=told | quick | {"project": str(tmp_path), "name": "run", "optimizer": "SGD"})
    trainer.final_eval = lambda: None
    trainer.train()

    for path in (trainer.best, trainer.last):
        found = checkpoints.weights_of(path)
        require_same(found, loaded_by_torch(path))


@pytest.mark.parametrize("architecture", [SMALL, "mobilenet_v2"])
@pytest.mark.parametrize("zipped", [True, False])
def test_the_state_dicts_of_torchvision_are_read_in_both_formats(
    tmp_path: Path, architecture: str, zipped: bool
) -> None:
    state = models.get_model(architecture, weights=None).state_dict()
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)

    require_same(checkpoints.weights_of(tmp_path / "a.pth"), state)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_the_scripts_of_torchvision_leave_is_read(tmp_path: Path, zipped: bool) -> None:
    """Weights below ``model``, beside settings, with the prefix of distributed training before all names."""
    network = torchvision_networks.build(SMALL, 7)
    content = {
        "model": {f"module.{name}": tensor for name, tensor in network.state_dict().items()},
        "optimizer": torch.optim.SGD(network.parameters()).state_dict(),
        "args": argparse.Namespace(data=Path("images"), began=datetime.datetime.now(tz=datetime.UTC)),
    }
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)

    wanted = torchvision_networks.build(SMALL, 2).state_dict()
    fitting = checkpoints.matching(checkpoints.weights_of(tmp_path / "a.pth"), wanted, "classifier.3.", SMALL)

    assert wanted.keys() - fitting.keys() == {"classifier.3.weight", "classifier.3.bias"}


class Laboratory(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """A class that exists nowhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 3)
        self.register_parameter("scale", nn.Parameter(torch.ones(4)))


def test_a_module_of_a_class_that_is_not_installed_gives_its_tensors(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module, saved = Laboratory(), io.BytesIO()
    torch.save(module, saved)
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(tmp_path / "a.pt", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(f"c{__name__}\n".encode(), b"cacme_laboratory.networks\n"))

    with caplog.at_level(logging.INFO):
        found = checkpoints.weights_of(tmp_path / "a.pt")

    require_same(found, module.state_dict())
    assert "not built, only what they hold is read: acme_laboratory.networks.Laboratory" in caplog.text


def test_a_program_and_numbers_of_other_machines_are_named_as_such(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(3)}, tmp_path / "a.pt")
    for name, content, words in (("code/x.py", b"", "TorchScript"), ("byteorder", b"big", "big-endian")):
        with zipfile.ZipFile(tmp_path / "a.pt") as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
            for member in old.namelist():
                if not member.endswith(name):
                    new.writestr(member, old.read(member))
            new.writestr(f"a/{name}", content)
        with pytest.raises(RefusedError, match=words):
            checkpoints.weights_of(tmp_path / "b.pt")


def test_what_is_taken_and_what_is_not_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(torchvision_networks.build(SMALL, 7).state_dict() | {"more": torch.ones(1)}, tmp_path / "a.pth")
    found = checkpoints.weights_of(tmp_path / "a.pth")
    assert checkpoints.taken(tmp_path / "a.pth") is None

    with caplog.at_level(logging.INFO):
        checkpoints.matching(found, torchvision_networks.build(SMALL, 2).state_dict(), "classifier.3.", SMALL)

    words = (
        "242 of 244 tensors were taken from the checkpoint; 2 of the head, which depend on the classes, begin at random:"
        " classifier.3.weight, classifier.3.bias; 1 tensors of the checkpoint have no place in it"
    )
    assert words in caplog.text
    assert str(checkpoints.taken(tmp_path / "a.pth")) == words


def test_a_checkpoint_of_another_architecture_is_refused_with_what_differs(tmp_path: Path) -> None:
    torch.save(models.mobilenet_v3_large().state_dict(), tmp_path / "a.pth")
    found = checkpoints.weights_of(tmp_path / "a.pth")

    with pytest.raises(RefusedError) as caught:
        checkpoints.matching(found, torchvision_networks.build(SMALL, 2).state_dict(), "classifier.3.", SMALL)

    message = caught.value.failure.message
    assert re.search(
        r"of 244 tensors, 56 are missing, such as \S+ and \d+ have another shape, such as \S+, which is", message
    )
    assert "name the architecture that it was trained with" in message


def test_a_checkpoint_whose_training_failed_is_refused(tmp_path: Path) -> None:
    state = torchvision_networks.build(SMALL, 2).state_dict()
    state["features.0.0.weight"][0] = torch.nan
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(RefusedError, match=r"numbers in features\.0\.0\.weight that are not finite"):
        checkpoints.matching(checkpoints.weights_of(tmp_path / "a.pth"), state, "classifier.3.", SMALL)


def text(words: str) -> bytes:
    return b"X" + struct.pack("<I", len(words)) + words.encode()


COMMAND = "touch trace"
STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04tQ"
REBUILT = b"ctorch._utils\n_rebuild_tensor_v2\n"
WEIGHTS = REBUILT + b"(" + STORAGE + b"K\x00K\x04\x85K\x01\x85tR"
"""A tensor of four numbers."""
HOSTILE = {
    "a function of the shell": b"\x80\x02cos\nsystem\n" + text(COMMAND) + b"\x85R.",
    "eval of Python": b"\x80\x02cbuiltins\neval\n" + text("open('trace','w')") + b"\x85R.",
    "eval of Python 2": b"c__builtin__\neval\n(S\"open('trace','w')\"\ntR.",
    "a name from the stack": b"\x80\x04" + text("posix") + text("system") + b"\x93" + text(COMMAND) + b"\x85R.",
    "an instance of old": b"(S'touch trace'\nios\nsystem\n.",
    "an object of old": b"(cos\nsystem\nS'touch trace'\no.",
    "a new object": b"\x80\x02csubprocess\nPopen\n" + text(COMMAND) + b"\x85\x81.",
    "a name in a name": b"\x80\x04" + text("pathlib") + text("os.system") + b"\x93" + text(COMMAND) + b"\x85R.",
    "a state that would be a function": b"\x80\x02cacme\nNet\n)\x81}"
    + text("__setstate__")
    + b"cos\nsystem\nsb"
    + text(COMMAND)
    + b"b.",
    "a state of a class of ours": b"\x80\x02cacme\nNet\nN}" + text("__call__") + b"cos\nsystem\ns\x86b.",
    "an entry of the registry of extensions": b"\x80\x02\x82\x01.",
    "an entry far away": b"\x80\x02\x84\xff\xff\xff\x7f.",
    "a line for a storage": b"P../../etc/passwd\n.",
    "a tuple for a storage": b"\x80\x02(" + text("storage") + b"cos\nsystem\n" + text("0") + text("cpu") + b"K\x04tQ.",
    "a storage of less than nothing": b"\x80\x02("
    + text("storage")
    + b"ctorch\nFloatStorage\n"
    + text("0")
    + text("cpu")
    + b"J\xff\xff\xff\xfftQ.",
    "a memo of thousands of millions": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "a memo that is not there": b"\x80\x02j\xff\xff\xff\x7f.",
    "a frame larger than the file": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
    "a mark too few": b"\x80\x02tR.",
    "a mapping that holds itself as its key": b"\x80\x02}q\x00h\x00Ns.",
    "a key of millions of nested tuples": b"\x80\x02})" + b"\x85" * 3_000_000 + b"Ns.",
    "a module within itself": b"\x80\x02cacme\nNet\n)\x81q\x01}" + text("_modules") + b"}" + text("a") + b"h\x01ssb.",
    "code of a function that reads it": b"\x80\x02" + REBUILT + b"N}" + text("__code__") + text(COMMAND) + b"s\x86b.",
    "a method of a class that is built": b"\x80\x02ccollections\nOrderedDict\nN}" + text("get") + text(COMMAND) + b"s\x86b.",
    "a name longer than a header": b"\x80\x02}" + text("w" * 5_000_000) + WEIGHTS + b"s.",
    "an empty tensor with sides beyond all numbers": b"\x80\x02}(" + text("w") + WEIGHTS + text("z") + REBUILT + b"(" + STORAGE
    + b"K\x00(K\x00" + b"\x8a\x06\xff\xff\xff\xff\xff\x7f" * 15 + b"t(" + b"K\x01" * 16 + b"ttRu.",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_refused_and_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", HOSTILE[name])
        archive.writestr("a/data/0", bytes(16))

    with pytest.raises(RefusedError) as caught:
        checkpoints.weights_of(tmp_path / "a.pt")

    names_code = any(word in HOSTILE[name] for word in (b"system", b"Popen", b"eval"))
    assert caught.value.failure.reason is (Reason.UNTRUSTED_CHECKPOINT if names_code else Reason.CHECKPOINT_INVALID)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]
