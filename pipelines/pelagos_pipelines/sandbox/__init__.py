"""Parses untrusted input in child processes that have ceilings for memory, processor time and wall-clock time.

A caller that decodes images, annotation files or checkpoints keeps a `Pool` and calls `Pool.run` with the name of a task: a
function ``(arguments, file) -> Answer`` in the module that the pool was created for. This package imports only the standard
library, because it also runs in the model server's environment.

The calling process starts a clean interpreter, the zygote (zygote.py), which loads the module of tasks once and forks a child
(child.py) whenever one is needed. Hostile input may take over a child. So a child holds no secrets and no connections, and its
answers are accepted only as JSON and raw bytes of bounded size.
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
