"""Third-party sources, formats, families and engines: modules that an administrator names and that register what they provide.

Installed packages are never discovered or loaded automatically: only modules in ``PELAGOS_EXTENSIONS`` are. Both planes load the
same names, each in its own environment, so a process that lacks one of them fails with an error.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from enum import Enum
from importlib import import_module

VARIABLE = "PELAGOS_EXTENSIONS"
"""Names of modules, separated by commas. The operator passes the variable on to its steps."""
REGISTER = "register"
"""Function of a module that is called in both planes, for the tables of pelagos_contract."""
NAMES = r"^([A-Za-z_][A-Za-z0-9_.]*(,[A-Za-z_][A-Za-z0-9_.]*)*)?$"


class Plane(Enum):
    """The plane of a process; the value names an optional function of a module that is also called there."""

    CONTROL = "register_control_plane"
    DATA = "register_data_plane"


class ExtensionError(ValueError):
    """A named module cannot be used; the message says why and what to do."""


_loaded: set[str] = set()


def load(named: str, plane: Plane) -> None:
    """Import the modules and call their register functions, once per process. Raises ExtensionError."""
    if not re.fullmatch(NAMES, named):
        raise ExtensionError(f"{VARIABLE} is {named!r}; it must be names of Python modules, separated by commas")
    for name in filter(None, named.split(",")):
        if name not in _loaded:
            _register(name, plane)
            _loaded.add(name)


def _register(name: str, plane: Plane) -> None:
    try:
        module = import_module(name)
        registering: Callable[[], None] | None = getattr(module, REGISTER, None)
        if registering is None:
            raise ExtensionError(f"{VARIABLE} names {name!r}, which has no function {REGISTER}()")
        registering()
        getattr(module, plane.value, _nothing)()
    except ExtensionError:
        raise
    except ModuleNotFoundError as error:
        raise ExtensionError(
            f"{VARIABLE} names {name!r}, and {sys.prefix} has no module {error.name!r}: install the same package there that"
            " the operator has, or take the name out"
        ) from error
    except Exception as error:
        raise ExtensionError(
            f"{VARIABLE} names {name!r}, which could not register: {type(error).__name__}: {error}"
        ) from error


def _nothing() -> None:
    """Default for a module without a function for this plane."""
