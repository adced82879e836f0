"""The command `pelagos`. Progress and problems go to standard error, results to standard output; NO_COLOR is obeyed."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, NoReturn

import typer
from typing_extensions import override

from pelagos.cli.commands import Commands
from pelagos.embedded.failures import StartError
from pelagos_contract import extensions
from pelagos_contract.extensions import ExtensionError, Plane


class _App(typer.Typer):
    @override
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Run the command. Expected errors are printed without a stack trace, others with one, made safe to display."""
        os.umask(0o077)  # files that we, or processes started by us, write are private to their owner
        try:
            return super().__call__(*arguments, **options)
        except (StartError, ExtensionError) as error:
            from rich.text import Text

            _say(Text.assemble(("Error: ", "bold red"), str(error)))
        except Exception:
            import traceback

            _say(traceback.format_exc())


def _say(problem: Any) -> NoReturn:
    from pelagos.cli import installed

    installed.progress_console().print(problem, soft_wrap=True)
    sys.exit(1)


app = _App(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Image collections and image-analysis models of the aquatic sciences, as Kubernetes resources.",
    epilog="State is kept in the folder PELAGOS_HOME. First steps: pelagos up, then kubectl apply -f your resources.",
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from importlib import metadata

        sys.stdout.write(f"pelagos {metadata.version('pelagos')}\n")
        raise typer.Exit


@app.callback()
def pelagos(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Image collections and image-analysis models of the aquatic sciences, as Kubernetes resources."""
    extensions.load(os.environ.get(extensions.VARIABLE, ""), Plane.CONTROL)


if __name__ == "__main__":
    app()
