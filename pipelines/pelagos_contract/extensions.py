"""Sources, formats, families and engines of others: modules that whoever runs Pelagos names, and that register what they bring.

Nothing that is installed is looked for or loaded by itself: only what ``PELAGOS_EXTENSIONS`` names is. Both planes load the same
names, each in its own environment, so that a process which does not have one of them ends and says so.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from enum import Enum
from importlib import import_module

VARIABLE = "PELAGOS_EXTENSIONS"
"""Names of modules, separated by commas. The operator hands it to its steps."""
REGISTER = "register"
"""Called in both planes, for the tables of pelagos_contract."""
NAMES = r"^([A-Za-z_][A-Za-z0-9_.]*(,[A-Za-z_][A-Za-z0-9_.]*)*)?$"


class Plane(Enum):
    """Where a process belongs; the value is the function of a module, if it has one, that is called there, too."""

    CONTROL = "register_control_plane"
    DATA = "register_data_plane"


class ExtensionError(ValueError):
    """A module that was named cannot be used here; the message says why, and what to do."""


_loaded: set[str] = set()


def load(named: str, plane: Plane) -> None:
    """Import the modules and have each register what it brings; those that have done so are left alone.

    Raises ExtensionError.
    """
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
    """What a module does in a plane for which it brings nothing."""
