"""``pelagos control-plane``: the programs etcd and kube-apiserver."""

from __future__ import annotations

from typing import Annotated

import typer

from pelagos.cli import installed, outputs
from pelagos.cli.outputs import Output
from pelagos.cli.up import install_control_plane
from pelagos.embedded import binaries
from pelagos.embedded.releases import Source

app = typer.Typer(no_args_is_help=True, help="The programs of the embedded Kubernetes API server.")


@app.callback()
def control_plane() -> None:
    """The programs of the embedded Kubernetes API server."""


@app.command()
def install(
    version: Annotated[str, typer.Option(help="Only this version of Kubernetes, such as 1.20.2.")] = "",
    source: Annotated[Source | None, typer.Option("--from", help="Only from this source.")] = None,
    output: outputs.Option = Output.TABLE,
) -> None:
    """Get etcd and kube-apiserver from KUBEBUILDER_ASSETS, the cache or the envtest archive, or build them once.

    An interrupted build continues where it was. Prints where they are. Exit codes: 0 when they are installed, 1 when they could
    not be installed.
    """
    found = binaries.installed(version, source)
    if found is None:
        found = install_control_plane(installed.progress_console(), version, source)
    told = binaries.told(found)
    if output is not Output.TABLE:
        outputs.write({"etcd": str(found.etcd), "kubeApiserver": str(found.kube_apiserver), "version": told}, output)
        return
    console = installed.result_console()
    rows = {
        "etcd": found.etcd,
        "kube-apiserver": found.kube_apiserver,
        "Kubernetes": told or "of an unknown version",
    }
    console.print("\n".join(f"{name:<14}  {value}" for name, value in rows.items()), soft_wrap=True)
