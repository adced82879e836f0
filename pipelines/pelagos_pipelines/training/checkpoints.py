"""Users' checkpoints, which are untrusted until verified, and our own, which must survive a crash.

Family modules call this before they open a file. A sandboxed child extracts the tensors; a user's file never reaches torch.load.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from typing_extensions import override

from pelagos_contract import beneath, disk, sealing, text
from pelagos_contract.beneath import ChangedError, Folder, NoFileError, TooLargeError
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.training import Weights
from pelagos_pipelines import storage
from pelagos_pipelines.sandbox import MEBIBYTE, LimitError, Limits, Pool, SandboxError, TaskRefusedError
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it
from pelagos_pipelines.training import families, tensor_files
from pelagos_pipelines.training.tensor_files import FormatError

log = logging.getLogger(__name__)

FIELD = "model.weights"
_TASKS = "pelagos_pipelines.training.extraction"
_SECONDS = 20
"""Seconds of processor time to read a checkpoint; one of 300 MB takes one second."""
_NAMED = 3
"""How many tensors a message names."""


class Found(dict[str, Any]):
    """The tensors of a user's checkpoint, by name, and the path of the copy that they were read from."""

    path: Path | None = None


@dataclass(frozen=True)
class Taken:
    """How much of a checkpoint a training starts from.

    ``taken`` of the architecture's ``wanted`` tensors come from the checkpoint. ``left_out`` names the others, which depend on
    the classes. ``unused`` counts the checkpoint's tensors that the architecture has no place for.
    """

    taken: int
    wanted: int
    left_out: Sequence[str]
    unused: int

    @override
    def __str__(self) -> str:
        """A sentence for logs and reports."""
        words = f"{self.taken} of {self.wanted} tensors were taken from the checkpoint"
        if self.left_out:
            words += f"; {len(self.left_out)} of the head, which depend on the classes, begin at random: {_some(self.left_out)}"
        return words + (f"; {self.unused} tensors of the checkpoint have no place in it" if self.unused else "")


def copy_checkpoint(weights: Weights, data_root: Path, target: Path) -> Path:
    """Copy the user's checkpoint from the data volume to ``target``, so that the file that is verified is the one that is loaded.

    Raises:
        RefusedError: CHECKPOINT_INVALID: the path leads out of the data volume or to no readable file, or the file is above the
            ceiling or has another sha256.
    """
    base, named = data_root.resolve(), weights.on_volume or ""
    path = beneath.resolved(base, named)
    if path is None:
        raise _invalid(f"{named!r} leads out of the data volume; name a file below it")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Links were resolved above, once. The file is opened without following any, even if one was put there since then.
        allowed = Ceilings.read().checkpoint_mebibytes * MEBIBYTE
        with disk.written(target):
            digest = Folder(base).copy(path, target, allowed)
    except TooLargeError as error:
        raise _invalid(
            f"{named!r} has {error.size} bytes; at most {allowed} are read ({raise_it('checkpoint_mebibytes')})"
        ) from None
    except (NoFileError, ChangedError) as error:
        raise _invalid(f"{named!r} is not a file on the data volume; check the spelling or upload it") from error
    except PermissionError as error:
        message = f"{named!r} may not be read by the account that steps run under; give it the right to read the file"
        raise _invalid(message) from error
    wanted = (weights.sha256 or digest).removeprefix("sha256:").lower()
    if digest != wanted:
        raise RefusedError(
            Reason.CHECKPOINT_INVALID,
            f"{named!r} has sha256 {digest}, but model.weights.sha256 is {wanted}; correct the sum or the file",
            "model.weights.sha256",
        )
    return target


def download(weights: Weights, data_root: str, scratch: Path) -> Path:
    """The data volume as a folder. For one on object storage that is ``scratch``, with only the user's checkpoint, if it exists.

    Raises:
        StorageError, StorageRefusedError: see storage.errors.
    """
    if not storage.is_remote(data_root):
        return Path(data_root)
    scratch.mkdir(parents=True, exist_ok=True)
    path = weights.on_volume or ""
    if path.isprintable() and not any(part in ("", ".", "..") for part in path.split("/")):
        with contextlib.suppress(FileNotFoundError):
            storage.Bucket(data_root).download(path, scratch / path)
    return scratch


def weights_of(path: Path) -> Found:
    """The tensors of a user's checkpoint, by name, with floats in single precision. A sandboxed child reads it (extraction.py).

    Raises:
        RefusedError: UNTRUSTED_CHECKPOINT for a file that refers to code; CHECKPOINT_INVALID for one that is not a checkpoint or
            exceeds a ceiling.
    """
    ceilings = Ceilings.read()
    allowed = ceilings.checkpoint_mebibytes * MEBIBYTE
    # The harmless names of all frameworks, because which one wrote the file is not known before it is read.
    harmless = [name for family in families.FAMILIES for name in family.harmless]
    limits = Limits(2 * allowed + 256 * MEBIBYTE, _SECONDS, 10 * _SECONDS, allowed + tensor_files.MAX_HEADER)
    with Pool(_TASKS, limits, environment=ceilings.variables()) as pool, path.open("rb") as file:
        try:
            answer = pool.run("weights", {"harmless": harmless}, file=file.fileno())
            read = tensor_files.read(memoryview(answer.raw))
        except TaskRefusedError as refusal:
            if refusal.detail.get("untrusted"):
                raise RefusedError(Reason.UNTRUSTED_CHECKPOINT, str(refusal), FIELD) from None
            raise _invalid(str(refusal)) from None
        except LimitError as error:
            hint = raise_it("checkpoint_mebibytes")
            raise _invalid(f"the file cannot be read as a checkpoint: {error} ({hint}); export it again") from error
        except (SandboxError, FormatError) as error:
            raise _invalid(f"the file cannot be read as a checkpoint: {error}; export it again") from error
    if foreign := answer.document.get("foreign"):
        names = ", ".join(text.shown(str(name))[:120] for name in foreign)
        log.info("the checkpoint names classes that are not built, only what they hold is read: %s", names)
    found = Found((name, _tensor(one)) for name, one in read.items())
    found.path = path
    return found


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
        "BOOL": torch.uint8,  # a byte other than 0 and 1 is not a valid bool
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
    """The tensors of ``found`` to start from. Those with a ``head`` in their name may differ, as they depend on the classes.

    The result, a `Taken`, is logged, and noted beside the copy for the step, which reads it with `taken`.

    Raises:
        RefusedError: CHECKPOINT_INVALID when any other tensor of the architecture is missing or has another shape, or when a
            tensor has numbers that are not finite.
    """
    import torch

    path = getattr(found, "path", None)
    found = _called_alike(found, wanted)
    heads = (head,) if isinstance(head, str) else head
    body = [name for name in wanted if not any(each in name for each in heads)]
    missing = [name for name in body if name not in found]
    other = [name for name in body if name in found and found[name].shape != wanted[name].shape]
    if missing or other:
        wrong = [f"{len(missing)} are missing, such as {missing[0]}"] if missing else []
        if other:
            shapes = tuple(found[other[0]].shape), tuple(wanted[other[0]].shape)
            wrong.append(
                f"{len(other)} have another shape, such as {other[0]}, which is {shapes[0]} instead of {shapes[1]}"
            )
        raise _invalid(
            f"the checkpoint is not one of {architecture}: of {len(wanted)} tensors, {' and '.join(wrong)};"
            " name the architecture that it was trained with",
        )
    fitting = {
        name: found[name] for name, tensor in wanted.items() if name in found and found[name].shape == tensor.shape
    }
    for name, tensor in fitting.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise _invalid(
                f"the checkpoint has numbers in {name} that are not finite: its training failed, or it is damaged"
            )
    left_out = [name for name in wanted if name not in fitting]
    note = Taken(len(fitting), len(wanted), left_out, len(found.keys() - wanted.keys()))
    log.info("%s", note)
    if path is not None:
        # Concurrent trials start from the same copy and note the same; the atomic write lets the step read any of their notes.
        disk.write_atomically(_note(path), json.dumps(asdict(note)))
    return fitting


def taken(start: Path) -> Taken | None:
    """The note that `matching` left beside ``start``, the copy of a checkpoint; None before it has run."""
    try:
        return Taken(**json.loads(_note(start).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _note(start: Path) -> Path:
    return start.with_name(f"{start.name}.taken.json")


def _called_alike(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """``found`` without the prefix that wrappers put before all names, such as DistributedDataParallel's ``module.``."""
    if found.keys() & wanted.keys():
        return dict(found)
    first = {name.partition(".")[0] for name, tensor in found.items() if tensor.ndim}
    prefix = f"{first.pop()}." if len(first) == 1 else ""
    return {name.removeprefix(prefix): tensor for name, tensor in found.items()}


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


class _Digested:
    """A file for torch to write to, which keeps the ``digest`` of its content and, in ``failed``, the first error of a write.

    torch itself reports such an error only as a RuntimeError of its zip writer.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._sum = file, hashlib.sha256()
        self.failed: OSError | None = None

    def write(self, content: bytes) -> int:
        """Append ``content``; the number of bytes written."""
        self._sum.update(content)
        try:
            return self._file.write(content)
        except OSError as error:
            self.failed = self.failed or error
            raise

    def flush(self) -> None:
        """Do nothing: closing the file flushes it."""

    @property
    def digest(self) -> str:
        """SHA-256 of everything written, in hexadecimal."""
        return self._sum.hexdigest()


def save_atomically(content: Any, path: Path) -> None:
    """Write ``content`` with torch.save, so that a crash leaves either the old file or the new one."""
    import torch

    with disk.written(path.with_name(f".{path.name}.partial")) as partial:
        with partial.open("wb", buffering=MEBIBYTE) as file:
            writing = _Digested(file)
            try:
                torch.save(content, cast(IO[bytes], writing))
            except RuntimeError as error:
                raise writing.failed or error from None
        replace_durably(partial, path, writing.digest)


def replace_durably(partial: Path, path: Path, digest: str | None = None) -> None:
    """Move a written file over ``path`` once its bytes are on disk. ``digest`` is its SHA-256, computed here if not given."""
    with disk.written(partial):
        # Without this, a power cut after the rename could leave the new name with incomplete content.
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        # The seal is written first, because a file without one counts as a stranger's. The seal also keeps earlier digests, so
        # the file that is at ``path`` now stays genuine if the process ends between these two lines.
        sealing.vouch(path, digest or sealing.digest_of(partial))
        partial.replace(path)


def _invalid(message: str) -> RefusedError:
    return RefusedError(Reason.CHECKPOINT_INVALID, message, FIELD)
