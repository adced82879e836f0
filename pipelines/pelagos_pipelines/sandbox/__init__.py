"""Parsers of what strangers wrote run here: in child processes with ceilings for memory, processor time and real time.

Whoever has to decode an image, an annotation file or a checkpoint keeps a `Pool` and calls `Pool.run` with the name of a task: a
function ``(arguments, file) -> Answer`` of the one module that the pool was made for. The standard library is all that it
knows, because the environment of the model server runs it, too.

The process that is served starts a clean interpreter, the zygote (zygote.py), which loads the module of the tasks once and forks
a child (child.py) whenever one is needed. A child may be taken over by what it reads: it holds no secret and no connection, and
of what it says only JSON and raw bytes of bounded size are believed to be an answer.
"""

from pelagos_pipelines.sandbox.limits import (
    MEBIBYTE,
    Answer,
    CrashError,
    LimitError,
    Limits,
    SandboxError,
    TaskError,
    TaskRefusedError,
    UnavailableError,
    children_for,
)
from pelagos_pipelines.sandbox.pool import Pool

__all__ = [
    "MEBIBYTE",
    "Answer",
    "CrashError",
    "LimitError",
    "Limits",
    "Pool",
    "SandboxError",
    "TaskError",
    "TaskRefusedError",
    "UnavailableError",
    "children_for",
]
