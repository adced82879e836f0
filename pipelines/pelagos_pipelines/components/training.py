# ruff: noqa: PLR0913, PLR0917 - a component has the parameters of its flow; a comment beside them would be compiled with it
"""The components that make a verified, servable model from a dataset version. Used by the two forms of the flow training."""

from kfp import dsl

from pelagos_pipelines.components import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def train_evaluate_export(
    request: str, data_root: str, store: str, report: str, workspace: str, tracking_uri: str, tracking_run: str
) -> None:
    """Train, or continue from the last checkpoint; measure on the test split; export, prove, package and report."""
    from pelagos_pipelines.steps.stages import perform

    stages = ("train", "evaluate", "export")
    perform(stages, request, data_root, store, report, workspace, tracking_uri, tracking_run)


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def train_evaluate(
    request: str, data_root: str, store: str, report: str, workspace: str, tracking_uri: str, tracking_run: str
) -> None:
    """Train, or continue from the last checkpoint in the workspace; measure the best one on the test split."""
    from pelagos_pipelines.steps.stages import perform

    stages = ("train", "evaluate")
    perform(stages, request, data_root, store, report, workspace, tracking_uri, tracking_run)


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def export(
    request: str, data_root: str, store: str, report: str, workspace: str, tracking_uri: str, tracking_run: str
) -> None:
    """Export to ONNX, prove parity, package for Triton and write the report."""
    from pelagos_pipelines.steps.stages import perform

    stages = ("export",)
    perform(stages, request, data_root, store, report, workspace, tracking_uri, tracking_run)
