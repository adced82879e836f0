"""How commands print what they found: a table for people, JSON or YAML for programs, with the same words for all of them."""

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
"""Of every command that prints a result."""


def failed(error: Exception, output: Output, told: Mapping[str, Any]) -> typer.Exit:
    """Say why there is nothing to show: to people, and with what else is ``told`` to programs. Raise what it returns."""
    if output is not Output.TABLE:
        write({**told, "error": str(error)}, output)
    words = Text.assemble(("Error: ", "bold red"), shown(str(error), lines=True))
    installed.progress_console().print(words, soft_wrap=True)
    return typer.Exit(1)


def write(content: Any, output: Output) -> None:
    """Print a document for programs, fit to be shown."""
    if output is Output.YAML:
        import yaml  # of few commands' runs

        # YAML knows the escapes in quotes only, and quotes what is not ASCII then.
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=shown_in(content) == content)
    else:
        text = shown(json.dumps(content, indent=2, ensure_ascii=False), lines=True) + "\n"
    sys.stdout.write(text)
