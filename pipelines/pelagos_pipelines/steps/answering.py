"""The output of programs that the control plane's commands run: one line of JSON, a result or an ``error``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from pydantic import ValidationError

from pelagos_contract.base import Strict


def answer(work: Callable[[], Strict], expected: tuple[type[Exception], ...]) -> int:
    """Print the result of ``work``, or the message of an ``expected`` exception. Returns the exit code."""
    try:
        found = work().written()
    except expected as error:
        found = {"error": _words(error)}
    sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
    return int("error" in found)


def _words(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the request'}: {first['msg']}"
