"""Extracts the weights of a checkpoint without executing or allocating what the file asks for. Runs in a sandboxed child.

`weights` is the task. A torch checkpoint is a pickle, which says how to build objects, and files of numbers. Here every name that
the pickle refers to becomes an inert object that only keeps its arguments. So modules of any framework can be searched for
tensors without importing any of it. A tensor is accepted only if its numbers are in the file.
Classes of frameworks and of a user's own code are therefore accepted, and named in the log. A reference to something in Python
itself that can act, such as ``os.system``, can only be an attack on the reader, and the file is refused for it.
"""

from __future__ import annotations

import io
import math
import mmap
import os
import pickle
import re
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from typing_extensions import override

from pelagos_pipelines.sandbox import MEBIBYTE, Answer, TaskRefusedError
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it
from pelagos_pipelines.training import tensor_files
from pelagos_pipelines.training.tensor_files import FormatError

HARMLESS = (
    "collections.",
    "pathlib.",
    "datetime.",
    "enum.",
    "_codecs.encode",
    "argparse.Namespace",
    "types.SimpleNamespace",
    "functools.partial",
    "copyreg._reconstructor",
    "copy_reg._reconstructor",
    "decimal.Decimal",
    "uuid.UUID",
)
"""Prefixes of Python's own names that only hold data. A family adds those its framework's checkpoints need (``harmless``).

These are not executed either. Any other name of Python is a reason to refuse the file.
"""
_PYTHON = sys.stdlib_module_names | {"__builtin__", "copy_reg", "commands", "popen2", "os2", "exceptions"}
"""Python's top-level modules, with those of Python 2, which old pickles name."""
_USUAL = ("torch", "torchvision", "numpy")
"""Packages whose classes are not worth a line in the log."""
_MOST_NAMED = 20
_HARMLESS_BUILTINS = frozenset(
    {"set", "frozenset", "dict", "list", "tuple", "slice", "complex", "bytearray", "getattr", "object"}
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_KINDS = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_STATES = ("ema", "model", "state_dict", "model_state_dict")
"""Keys under which frameworks keep the weights in a checkpoint, in order of preference."""
_MAX_PICKLE = 64 * MEBIBYTE
_MAX_MODULES = 50_000
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_TAR_MARK = slice(257, 262)


class Inert:
    """Stands for any object that a pickle builds. Does nothing but keep its ``state``."""

    def __new__(cls, *arguments: object, **named: object) -> Inert:
        """Accept and ignore any arguments."""
        return super().__new__(cls)

    def __init__(self, *arguments: object, **named: object) -> None:
        """Accept and ignore any arguments."""
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        """Keep the state, in which a module has its parameters and its inner modules."""
        self.state = state

    def append(self, item: object) -> None:
        """Ignore the item: this object may stand for a list."""

    def extend(self, items: object) -> None:
        """Ignore the items: this object may stand for a list."""

    def __setitem__(self, key: object, item: object) -> None:
        """Ignore the item: this object may stand for a mapping."""


@dataclass(frozen=True)
class Storage:
    """``count`` numbers of type ``kind`` in the file, by the ``key`` that the pickle has for them."""

    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class View:
    """A tensor as the pickle describes it. `_numbers` checks it against the file."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


Numbers = Callable[[Storage], memoryview]


class Reader(pickle.Unpickler):
    """Reads a pickle into containers, `View` and `Inert`. ``names`` collects what the pickle would import."""

    names: set[str]
    storages: dict[str, Storage]

    def __init__(self, file: BinaryIO) -> None:
        """Read from the file's present position."""
        super().__init__(file, encoding="utf-8")
        self.names = set()
        self.storages = {}

    @override
    def find_class(self, module: str, name: str) -> Any:
        """The substitute for the name: a known constructor, a type of numbers, or `Inert`. Nothing is imported."""
        self.names.add(f"{module}.{name}")
        # A dotted name can reach another module that this one has imported, so the rest is judged by itself, too.
        if "." in name and module.partition(".")[0] in _PYTHON:
            self.names.add(name)
        found = {
            "collections.OrderedDict": OrderedDict,
            "torch._utils._rebuild_tensor": _view,
            "torch._utils._rebuild_tensor_v2": _view,
            "torch._utils._rebuild_parameter": _parameter,
            "torch._utils._rebuild_parameter_with_state": _parameter,
            "torch._tensor._rebuild_from_type_v2": _typed,
        }.get(f"{module}.{name}")
        if found is not None:
            return found
        if module in ("torch", "torch.storage") and name in _KINDS:
            return _KINDS[name]
        if f"{module}.{name}" in ("builtins.set", "__builtin__.set"):
            return _set
        return Inert

    @override
    def persistent_load(self, identity: Any) -> Any:
        """A storage, from (``storage``, type, key, device, number of items, ...). Older files also refer to classes this way."""
        match identity:
            case ("storage", str(kind), str(key), str(), int(count), *rest) if count >= 0:
                if any(view is not None for view in rest):
                    raise FormatError("its storages are parts of each other, as only torch before 0.4 wrote them")
                return self.storages.setdefault(key, Storage(kind, key, count))
            case ("module", type() as stands, *_) if stands is Inert:
                return stands
        raise FormatError("it refers to something that is no storage")


def _set(items: object = ()) -> object:
    return frozenset(item for item in items if isinstance(item, str)) if isinstance(items, list) else frozenset()


def _view(storage: object, offset: object, shape: object, stride: object, *rest: object) -> object:
    if not isinstance(storage, Storage) or not isinstance(offset, int):
        return Inert()
    if not (isinstance(shape, tuple) and isinstance(stride, tuple) and len(shape) == len(stride) <= 16):
        return Inert()
    if not all(type(item) is int and 0 <= item < 2**48 for item in (offset, *shape, *stride)):
        return Inert()
    return View(storage, offset, shape, stride)


def _parameter(tensor: object = None, *rest: object) -> object:
    return tensor


def _typed(rebuild: object = None, kind: object = None, arguments: object = (), *rest: object) -> object:
    """The plain tensor of a tensor subclass."""
    if rebuild is not _view or not isinstance(arguments, tuple) or len(arguments) < 4:
        return Inert()
    return _view(*arguments[:4])


def weights(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """The task: the tensors of the checkpoint in ``file``, as the content of a safetensors file."""
    size = os.fstat(file.fileno()).st_size
    allowed = Ceilings.read().checkpoint_mebibytes * MEBIBYTE
    if size > allowed:
        raise TaskRefusedError(
            f"the file has {size} bytes; at most {allowed} are read ({raise_it('checkpoint_mebibytes')})"
        )
    if size == 0:
        raise TaskRefusedError("the file is empty; export it again")
    names: set[str] = set()
    harmless = tuple(arguments["harmless"])
    try:
        # Not closed here, because the tensors are views of it.
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        taken = tensor_files.write([*_tensors(content, names, allowed)])
        _refuse_code(names, harmless)
        foreign = sorted(name for name in names if _is_foreign(name))
        return Answer({"foreign": [name[:80] for name in foreign[:_MOST_NAMED]]}, taken)
    except (TaskRefusedError, MemoryError):
        raise
    except FormatError as error:
        _refuse_code(names, harmless)
        raise TaskRefusedError(f"the file is not a checkpoint that can be read: {error}; export it again") from None
    except Exception as error:  # untrusted files fail in many ways
        _refuse_code(names, harmless)
        raise TaskRefusedError(
            f"the file is not a checkpoint that can be read ({type(error).__name__}); export it again"
        ) from None


def _is_foreign(name: str) -> bool:
    """Whether the name belongs to neither Python nor the usual frameworks."""
    return (
        name.partition(".")[0] not in _PYTHON and name.partition(".")[0] not in _USUAL and bool(_NAME.fullmatch(name))
    )


def _refuse_code(names: set[str], harmless: tuple[str, ...]) -> None:
    known = (*HARMLESS, *harmless)
    strange = sorted(
        name
        for name in names
        if (name.partition(".")[0] in _PYTHON or not _NAME.fullmatch(name))
        and not name.startswith(known)
        and name.removeprefix("__builtin__.").removeprefix("builtins.") not in _HARMLESS_BUILTINS
    )
    if strange:
        # A file that is not a pickle can parse as one whose names are parts of its text, so only proper names are quoted.
        shown = ", ".join(name[:80] if _NAME.fullmatch(name) else "something without a name" for name in strange[:5])
        raise TaskRefusedError(
            f"the checkpoint holds more than tensors: it would run or build {shown}; nothing was executed."
            " Save only the weights (model.state_dict()) or a checkpoint of the training framework itself",
            {"untrusted": True},
        )


def _tensors(
    content: memoryview, names: set[str], allowed: int
) -> Iterator[tuple[str, str, tuple[int, ...], memoryview]]:
    if bytes(content[:4]) == b"PK\x03\x04":
        root, numbers = _zipped(content, names)
    elif bytes(content[8:9]) == b"{":
        for name, tensor in tensor_files.read(content).items():
            yield name, tensor.kind, tensor.shape, tensor.content
        return
    elif bytes(content[_TAR_MARK]) == b"ustar":
        raise FormatError(
            "it is a tar archive, as torch before 0.1.10 wrote them: load it in that version and save it anew"
        )
    else:
        root, numbers = _legacy(content, names)
    total = 0
    for name, view in _named(root):
        item = tensor_files.ITEM_BYTES[view.storage.kind]
        total += math.prod(view.shape) * item
        if total > allowed:
            raise TaskRefusedError(f"its tensors have more than {allowed} bytes ({raise_it('checkpoint_mebibytes')})")
        yield name, view.storage.kind, view.shape, _numbers(view, numbers(view.storage), item)
    if not total:
        raise FormatError("it holds no tensors where frameworks keep them")


def _zipped(content: memoryview, names: set[str]) -> tuple[Any, Numbers]:
    """torch's format: an uncompressed zip archive of ``data.pkl`` and one member for each storage."""
    archive = zipfile.ZipFile(io.BufferedReader(_Raw(content)))
    members = {member.filename: member for member in archive.infolist()}
    pickles = [name for name in members if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(pickles) != 1:
        raise FormatError("it holds no data.pkl, or several")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
        raise FormatError("its members are compressed, which torch never does")
    if members[pickles[0]].file_size > _MAX_PICKLE:
        raise FormatError("its data.pkl has more than 64 MiB")
    base = pickles[0].removesuffix("data.pkl")
    if any(name.startswith(f"{base}code/") for name in members):
        raise FormatError("it is a program of TorchScript, and no state dict: save model.state_dict() in its place")
    order = members.get(f"{base}byteorder")
    if order is not None and archive.read(order.filename)[:8] != b"little":
        raise FormatError("its numbers are big-endian: load it with torch on this sort of machine, and save it anew")
    reader = Reader(io.BytesIO(archive.read(pickles[0])))
    reader.names = names

    def numbers(storage: Storage) -> memoryview:
        member = members.get(f"{base}data/{storage.key}")
        if member is None or member.file_size != storage.count * tensor_files.ITEM_BYTES[storage.kind]:
            raise FormatError("a storage is missing, or of another size than it says")
        # The member is uncompressed: its bytes follow a local header of 30 bytes, a name and an extra field, whose lengths are in
        # that header.
        begin = (
            member.header_offset
            + 30
            + sum(int.from_bytes(content[member.header_offset + place :][:2], "little") for place in (26, 28))
        )
        if begin + member.file_size > len(content):
            raise FormatError("a storage is longer than the file")
        return content[begin : begin + member.file_size]

    return reader.load(), numbers


def _legacy(content: memoryview, names: set[str]) -> tuple[Any, Numbers]:
    """torch's older format: pickles of a magic number, a version, the machine, the objects and the keys, then the storages."""
    file = io.BufferedReader(_Raw(content))

    storages: dict[str, Storage] = {}

    def load() -> Any:
        reader = Reader(file)
        reader.names, reader.storages = names, storages
        return reader.load()

    magic = load()
    if magic != _LEGACY_MAGIC:
        raise FormatError("it is neither safetensors nor a checkpoint that torch.save has written")
    load(), load()
    root = load()
    keys = load()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise FormatError("its storages have no keys")
    places, position = {}, file.tell()
    for key in keys:
        storage = storages.get(key)
        if storage is None:
            break  # its size is unknown, so later storages cannot be located; `numbers` refuses those that are needed
        size = storage.count * tensor_files.ITEM_BYTES[storage.kind]
        places[key] = content[position + 8 : position + 8 + size]
        position += 8 + size

    def numbers(storage: Storage) -> memoryview:
        found = places.get(storage.key)
        if found is None or len(found) != storage.count * tensor_files.ITEM_BYTES[storage.kind]:
            raise FormatError("a storage is missing, or of another size than it says")
        return found

    return root, numbers


def _named(root: Any) -> Iterator[tuple[str, View]]:
    """The weights of a checkpoint that is a state dict, a module, or a mapping with one of these under a usual key."""
    if isinstance(root, Mapping):
        for key in _STATES:
            inner = root.get(key)
            tensors = isinstance(inner, Mapping) and any(isinstance(value, View) for value in inner.values())
            if isinstance(inner, Inert) or tensors:
                root = inner
                break
    if isinstance(root, Inert):
        yield from _of_module(root)
    elif isinstance(root, Mapping):
        yield from ((name, view) for name, view in root.items() if isinstance(name, str) and isinstance(view, View))
    else:
        raise FormatError("it holds no mapping of tensors")


def _of_module(root: Inert) -> Iterator[tuple[str, View]]:
    """The entries that the module's ``state_dict`` would have."""
    waiting: list[tuple[str, Any]] = [("", root)]
    seen = 0
    while waiting:
        prefix, module = waiting.pop()
        seen += 1
        if seen > _MAX_MODULES:
            raise FormatError("it holds too many modules")
        state = module.state if isinstance(module, Inert) else None
        if not isinstance(state, Mapping):
            continue
        passing = state.get("_non_persistent_buffers_set")
        left_out = passing if isinstance(passing, (frozenset, set)) else frozenset()
        for kind in ("_parameters", "_buffers"):
            held = state.get(kind)
            for name, view in held.items() if isinstance(held, Mapping) else ():
                if isinstance(name, str) and isinstance(view, View) and name not in left_out:
                    yield prefix + name, view
        inner = state.get("_modules")
        for name, child in inner.items() if isinstance(inner, Mapping) else ():
            if isinstance(name, str):
                waiting.append((f"{prefix}{name}.", child))


def _numbers(view: View, storage: memoryview, item: int) -> memoryview:
    """The numbers of a tensor in row-major order. Its strides may be any, but it cannot be larger than its storage."""
    count = math.prod(view.shape)
    reach = view.offset + sum((side - 1) * step for side, step in zip(view.shape, view.stride, strict=True)) + 1
    if count and (reach > view.storage.count or count > view.storage.count):
        raise FormatError("a tensor is larger than its storage")
    if not count:
        return memoryview(b"")
    flat = np.frombuffer(storage, _WORDS[item])[view.offset :]
    strides = [step * item for step in view.stride]
    shown = np.lib.stride_tricks.as_strided(flat, view.shape, strides, writeable=False)
    return np.ascontiguousarray(shown).reshape(-1).view(np.uint8).data.cast("B")


class _Raw(io.RawIOBase):
    """A raw stream over a memory map, without a copy."""

    def __init__(self, content: memoryview) -> None:
        self._content, self._position = content, 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._content)}[whence]
        self._position = max(0, start + offset)
        return self._position

    @override
    def readinto(self, buffer: Any) -> int:
        found = self._content[self._position : self._position + len(buffer)]
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)
