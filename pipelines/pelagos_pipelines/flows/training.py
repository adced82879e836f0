"""The flow training: a dataset version becomes a proven, servable model."""

from kfp import dsl

from pelagos_pipelines.components import training as components


@dsl.pipeline(
    name="training", description="Train on a dataset version, measure on its test split, export and prove the model."
)
def training(  # noqa: PLR0913, PLR0917 - as in the contract
    request: str, data_root: str, store: str, report: str, workspace: str, tracking_uri: str, tracking_run: str
) -> None:
    """Parameters as in the contract between control plane and data plane. Where steps run, and with how many GPUs, is not said
    here: the control plane writes that into every run."""
    parameters = {
        "request": request,
        "data_root": data_root,
        "store": store,
        "report": report,
        "workspace": workspace,
        "tracking_uri": tracking_uri,
        "tracking_run": tracking_run,
    }
    train = components.train(**parameters)
    train.set_cpu_limit("4").set_memory_limit("16Gi")
    evaluate = components.evaluate(**parameters).after(train)
    export = components.export(**parameters).after(evaluate)
    for task in (evaluate, export):
        task.set_cpu_limit("4").set_memory_limit("8Gi")
    for task in (train, evaluate, export):
        task.set_caching_options(enable_caching=False)
