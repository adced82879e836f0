"""``pelagos control-plane``: the programs etcd and kube-apiserver."""

from __future__ import annotations

import typer

from pelagos.cli import installed, outputs
from pelagos.cli.outputs import Output
from pelagos.cli.up import install_control_plane
from pelagos.embedded import binaries

app = typer.Typer(no_args_is_help=True, help="The programs of the embedded Kubernetes API server.")


@app.callback()
def control_plane() -> None:
    """The programs of the embedded Kubernetes API server."""


@app.command()
def install(output: outputs.Option = Output.TABLE) -> None:
    """Get etcd and kube-apiserver: from KUBEBUILDER_ASSETS, the cache, the envtest archive, or by building them once.

    Prints where they are. Exit codes: 0 when they are there, 1 when they could not be installed.
    """
    found = binaries.find() or install_control_plane(installed.progress_console())
    if output is not Output.TABLE:
        outputs.write({"etcd": str(found.etcd), "kubeApiserver": str(found.kube_apiserver)}, output)
        return
    console = installed.result_console()
    console.print(f"etcd            {found.etcd}\nkube-apiserver  {found.kube_apiserver}", markup=False, soft_wrap=True)
