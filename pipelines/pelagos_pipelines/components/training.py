# ruff: noqa: PLR0913, PLR0917 - a component has the parameters of its flow; a comment beside them would be compiled with it
"""The components that make a proven, servable model of a dataset version. Used by the flow training, in this order."""

from kfp import dsl

from pelagos_pipelines.components import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def train(
    request: str, data_root: str, store: str, report: str, workspace: str, tracking_uri: str, tracking_run: str
) -> None:
    """Train, or continue from the last checkpoint in the workspace."""
    from pelagos_pipelines.steps.train import train as step

    step(request, data_root, store, report, workspace, tracking_uri, tracking_run)


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def evaluate(
    request: str, data_root: str, store: str, report: str, workspace: str, tracking_uri: str, tracking_run: str
) -> None:
    """Measure the best checkpoint on the test split."""
    from pelagos_pipelines.steps.evaluate import evaluate as step

    step(request, data_root, store, report, workspace, tracking_uri, tracking_run)


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def export(
    request: str, data_root: str, store: str, report: str, workspace: str, tracking_uri: str, tracking_run: str
) -> None:
    """Export to ONNX, prove parity, package for Triton and write the report."""
    from pelagos_pipelines.steps.export import export as step

    step(request, data_root, store, report, workspace, tracking_uri, tracking_run)
