"""The flow dataset-preparation: a source becomes a dataset version."""

from kfp import dsl

from pelagos_pipelines.components import preparation


@dsl.pipeline(
    name="dataset-preparation", description="Turn a source of images and labels into an immutable dataset version."
)
def dataset_preparation(request: str, data_root: str, store: str, report: str) -> None:
    """Parameters as in the contract between control plane and data plane."""
    prepare = preparation.prepare(request=request, data_root=data_root, store=store, report=report)
    prepare.set_cpu_limit("2").set_memory_limit("4Gi").set_caching_options(enable_caching=False)
