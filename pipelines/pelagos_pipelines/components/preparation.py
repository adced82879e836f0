"""The component that turns a source into a dataset version. Used by the flow dataset-preparation."""

from kfp import dsl

from pelagos_pipelines.components import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def prepare(request: str, data_root: str, store: str, report: str) -> None:
    """Prepare a dataset version and write the report."""
    from pelagos_pipelines.steps.prepare import prepare as step

    step(request, data_root, store, report)
