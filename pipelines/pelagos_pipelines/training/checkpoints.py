"""Checkpoints of users, which are hostile until proven otherwise, and our own, which must survive a crash.

Family modules call this before they look into a file. A child takes the tensors out of it; no loader of torch ever sees it.
"""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any

from pelagos_contract import beneath, disk, sealing
from pelagos_contract.beneath import ChangedError, Folder, NoFileError, TooLargeError
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.training import Weights
from pelagos_pipelines import storage
from pelagos_pipelines.sandbox import MEBIBYTE, LimitError, Limits, Pool, SandboxError, TaskRefusedError
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it
from pelagos_pipelines.training import families, tensor_files
from pelagos_pipelines.training.tensor_files import FormatError

FIELD = "model.weights.path"
_TASKS = "pelagos_pipelines.training.extraction"
_SECONDS = 20
"""Of processor time, to read a checkpoint: one of 300 MB takes one."""


def copy_checkpoint(weights: Weights, data_root: Path, target: Path) -> Path:
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
        allowed = Ceilings.read().checkpoint_mebibytes * MEBIBYTE
        with disk.written(target):
            digest = Folder(base).copy(path, target, allowed)
    except TooLargeError as error:
        raise _invalid(
            f"{weights.path!r} has {error.size} bytes; at most {allowed} are read ({raise_it('checkpoint_mebibytes')})"
        ) from None
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


def download(weights: Weights, data_root: str, scratch: Path) -> Path:
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


def weights_of(path: Path) -> dict[str, Any]:
    """The tensors of a user's checkpoint, by name; floating-point ones in single precision. A child reads it (extraction.py).

    Raises:
        RefusedError: UNTRUSTED_CHECKPOINT for one that refers to code; CHECKPOINT_INVALID when it is no checkpoint, or above a
            ceiling.
    """
    ceilings = Ceilings.read()
    allowed = ceilings.checkpoint_mebibytes * MEBIBYTE
    # Of all frameworks: which one a file comes from is not known before.
    harmless = [name for family in families.FAMILIES for name in family.harmless]
    limits = Limits(2 * allowed + 256 * MEBIBYTE, _SECONDS, 10 * _SECONDS, allowed + tensor_files.MAX_HEADER)
    with Pool(_TASKS, limits, environment=ceilings.variables()) as pool, path.open("rb") as file:
        try:
            found = tensor_files.read(memoryview(pool.run("weights", {"harmless": harmless}, file=file.fileno()).raw))
        except TaskRefusedError as refusal:
            if refusal.detail.get("untrusted"):
                raise RefusedError(Reason.UNTRUSTED_CHECKPOINT, str(refusal), FIELD) from None
            raise _invalid(str(refusal)) from None
        except LimitError as error:
            hint = raise_it("checkpoint_mebibytes")
            raise _invalid(f"the file cannot be read as a checkpoint: {error} ({hint}); export it again") from error
        except (SandboxError, FormatError) as error:
            raise _invalid(f"the file cannot be read as a checkpoint: {error}; export it again") from error
    return {name: _tensor(one) for name, one in found.items()}


def _tensor(found: tensor_files.Tensor) -> Any:
    import torch

    kinds = {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "I64": torch.int64,
        "I32": torch.int32,
        "I16": torch.int16,
        "I8": torch.int8,
        "U8": torch.uint8,
        "BOOL": torch.uint8,  # a byte that is neither 0 nor 1 is no bool
    }
    if not len(found.content):
        return torch.zeros(found.shape, dtype=kinds[found.kind])
    tensor = torch.frombuffer(bytearray(found.content), dtype=kinds[found.kind]).reshape(found.shape)
    if found.kind == "BOOL":
        return tensor != 0
    return tensor.float() if tensor.is_floating_point() else tensor


def matching(
    found: dict[str, Any], wanted: dict[str, Any], head: str | tuple[str, ...], architecture: str
) -> dict[str, Any]:
    """The tensors of ``found`` to start from; those whose name contains (a) ``head`` may differ, as they depend on the classes.

    Raises:
        RefusedError: CHECKPOINT_INVALID when any other tensor of the architecture is missing or has another shape.
    """
    heads = (head,) if isinstance(head, str) else head
    alien = [
        name
        for name, tensor in wanted.items()
        if not any(head in name for head in heads) and (name not in found or found[name].shape != tensor.shape)
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
    with disk.written(path.with_name(f".{path.name}.partial")) as partial:
        partial.write_bytes(buffer.getbuffer())
        replace_durably(partial, path)


def replace_durably(partial: Path, path: Path) -> None:
    """Move a written file over ``path`` after its bytes have reached the disk."""
    with disk.written(partial):
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        # The seal first: a file that has none yet counts as a stranger's. The one of before keeps its own until it is replaced.
        sealing.vouch(path, sealing.digest_of(partial))
        partial.replace(path)


def _invalid(message: str) -> RefusedError:
    return RefusedError(Reason.CHECKPOINT_INVALID, message, FIELD)
