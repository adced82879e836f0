"""How commands print results: a table for people, JSON or YAML for programs, with the same option for all commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any

import typer
from rich.text import Text

from pelagos.cli import installed
from pelagos_contract.text import shown, shown_in


class Output(Enum):
    """How the result is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


Option = Annotated[Output, typer.Option("--output", "-o", help="Format on standard output.")]
"""The option of every command that prints a result."""


def failed(error: Exception, output: Output, told: Mapping[str, Any]) -> typer.Exit:
    """Report an error to people, and to programs together with the fields in ``told``. Returns the exception to raise."""
    if output is not Output.TABLE:
        write({**told, "error": str(error)}, output)
    words = Text.assemble(("Error: ", "bold red"), shown(str(error), lines=True))
    installed.progress_console().print(words, soft_wrap=True)
    return typer.Exit(1)


def write(content: Any, output: Output) -> None:
    """Print a document for programs, made safe to display."""
    if output is Output.YAML:
        import yaml  # imported here because few runs need it

        # YAML has escapes only in quotes, and allow_unicode=False makes it quote everything that is not ASCII.
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=shown_in(content) == content)
    else:
        text = shown(json.dumps(content, indent=2, ensure_ascii=False), lines=True) + "\n"
    sys.stdout.write(text)
