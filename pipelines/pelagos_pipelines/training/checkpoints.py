"""Checkpoints of users, which are hostile until proven otherwise, and our own, which must survive a crash.

Family modules call this before they look into a file. It may know torch's safe loader; it never unpickles freely.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pelagos_pipelines import beneath, sealing, storage
from pelagos_pipelines.beneath import ChangedError, Folder, NoFileError
from pelagos_pipelines.contract import Reason, RefusedError, Weights

FIELD = "model.weights.path"
# What tensors and plain containers are rebuilt with.
HARMLESS = ("torch._utils.", "collections.OrderedDict", "torch.FloatStorage", "torch.LongStorage", "torch.HalfStorage")
Loaded = TypeVar("Loaded")


def take(weights: Weights, data_root: Path, target: Path) -> Path:
    """Copy the user's checkpoint to ``target``, so that what is verified is what is loaded.

    Raises:
        RefusedError: CHECKPOINT_INVALID: the path leaves the data volume, is no file, or has another sha256.
    """
    base = data_root.resolve()
    path = beneath.resolved(base, weights.path)
    if path is None:
        raise _invalid(f"{weights.path!r} leads out of the data volume; name a file below it")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Links on the way were resolved once; the file is opened without any, whatever stands there by now.
        digest = Folder(base).copy(path, target)
    except (NoFileError, ChangedError) as error:
        raise _invalid(f"{weights.path!r} is not a file on the data volume; check the spelling or upload it") from error
    except PermissionError as error:
        message = (
            f"{weights.path!r} may not be read by the account that steps run under; give it the right to read the file"
        )
        raise _invalid(message) from error
    wanted = (weights.sha256 or digest).removeprefix("sha256:").lower()
    if digest != wanted:
        raise RefusedError(
            Reason.CHECKPOINT_INVALID,
            f"{weights.path!r} has sha256 {digest}, but model.weights.sha256 is {wanted}; correct the sum or the file",
            "model.weights.sha256",
        )
    return target


def bring(weights: Weights, data_root: str, scratch: Path) -> Path:
    """The data volume as a folder: for one on object storage, ``scratch`` with the user's checkpoint alone, if it is there.

    Raises:
        StorageError, StorageRefusedError: see storage.errors.
    """
    if not storage.is_remote(data_root):
        return Path(data_root)
    scratch.mkdir(parents=True, exist_ok=True)
    parts = weights.path.split("/")
    if weights.path.isprintable() and not any(part in ("", ".", "..") for part in parts):
        with contextlib.suppress(FileNotFoundError):
            storage.Bucket(data_root).download(weights.path, scratch / weights.path)
    return scratch


def guarded(path: Path, load: Callable[[Path], Loaded]) -> Loaded:
    """What ``load``, a loader that executes nothing, makes of the file.

    Raises:
        RefusedError: UNTRUSTED_CHECKPOINT for a pickle that needs code; CHECKPOINT_INVALID when the file is no checkpoint.
    """
    try:
        return load(path)
    except RefusedError:
        raise
    except Exception as error:  # loaders fail in many ways on hostile files
        names = referenced_code(path)
        if names:
            raise RefusedError(
                Reason.UNTRUSTED_CHECKPOINT,
                f"the checkpoint holds more than tensors: it would run or build {', '.join(names[:5])}; nothing was executed."
                " Save only the weights (model.state_dict()) or a checkpoint of the training framework itself",
                FIELD,
            ) from error
        raise _invalid(
            f"the file is not a checkpoint that can be read ({type(error).__name__}); export it again"
        ) from error


def tensors(path: Path) -> Any:
    """A checkpoint as torch's restricted loader reads it: tensors and plain containers only."""
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def referenced_code(path: Path) -> list[str]:
    """Names that the pickle streams of a file would import, without importing them; empty when it is not a pickle."""
    try:
        if not zipfile.is_zipfile(path):
            return sorted(_imports(path.read_bytes()))
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".pkl")]
            return sorted({name for member in members for name in _imports(archive.read(member))})
    except (zipfile.BadZipFile, NotImplementedError):
        return []


def _imports(content: bytes) -> set[str]:
    """Imports of the pickles that ``content`` starts with; torch's older format is several of them, then raw numbers."""
    stream = io.BytesIO(content)
    found: set[str] = set()
    while stream.tell() < len(content):
        try:
            found |= _imports_of_one(stream)
        except (ValueError, UnicodeDecodeError, IndexError):  # not, or no longer, a pickle
            break
    return {name for name in found if not name.startswith(HARMLESS)}


def _imports_of_one(stream: io.BytesIO) -> set[str]:
    found: set[str] = set()
    texts: list[str] = []
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in {"GLOBAL", "INST"}:
            found.add(str(argument).replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL":
            found.add(".".join(texts[-2:]))
        elif isinstance(argument, str):
            texts.append(argument)
    return found


def matching(found: dict[str, Any], wanted: dict[str, Any], head: str, architecture: str) -> dict[str, Any]:
    """The tensors of ``found`` to start from; those whose name contains ``head`` may differ, as they depend on the classes.

    Raises:
        RefusedError: CHECKPOINT_INVALID when any other tensor of the architecture is missing or has another shape.
    """
    alien = [
        name
        for name, tensor in wanted.items()
        if head not in name and (name not in found or found[name].shape != tensor.shape)
    ]
    if alien:
        raise _invalid(
            f"the checkpoint is not one of {architecture}: {len(alien)} of {len(wanted)} tensors are missing or have another"
            f" shape, for example {alien[0]}; name the architecture that it was trained with",
        )
    return {name: found[name] for name, tensor in wanted.items() if name in found and found[name].shape == tensor.shape}


def save_atomically(content: Any, path: Path) -> None:
    """Write with torch.save so that a crash leaves the old file or the new one."""
    import torch

    # torch.save to a file reports a full disk as an error of its zip writer; writing bytes reports it as what it is.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(buffer.getbuffer())
    replace_durably(partial, path)


def replace_durably(partial: Path, path: Path) -> None:
    """Move a written file over ``path`` after its bytes have reached the disk."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    sealing.vouch(path, sealing.digest_of(partial))
    partial.replace(path)


def _invalid(message: str) -> RefusedError:
    return RefusedError(Reason.CHECKPOINT_INVALID, message, FIELD)
