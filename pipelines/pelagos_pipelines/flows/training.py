"""The flow training: a dataset version becomes a verified, servable model. Its two forms divide its stages differently.

Where steps run, and with how many GPUs, is not decided here: the control plane writes that into every run.
"""

from kfp import dsl

from pelagos_pipelines.components import training as components

NAME = "training"
DESCRIPTION = "Train on a dataset version, measure on its test split, export and prove the model."
_OF_TRAINING, _OF_OTHERS = "16Gi", "8Gi"


@dsl.pipeline(name=NAME, description=DESCRIPTION)
def training(  # noqa: PLR0913, PLR0917 - as in the contract
    request: str, data_root: str, store: str, report: str, workspace: str, tracking_uri: str, tracking_run: str
) -> None:
    """In one step. Parameters as in the contract between control plane and data plane."""
    task = components.train_evaluate_export(
        request=request,
        data_root=data_root,
        store=store,
        report=report,
        workspace=workspace,
        tracking_uri=tracking_uri,
        tracking_run=tracking_run,
    )
    task.set_cpu_limit("4").set_memory_limit(_OF_TRAINING).set_caching_options(enable_caching=False)


@dsl.pipeline(name=NAME, description=DESCRIPTION)
def training_on_gpus(  # noqa: PLR0913, PLR0917 - as in the contract
    request: str, data_root: str, store: str, report: str, workspace: str, tracking_uri: str, tracking_run: str
) -> None:
    """In two steps: what needs no GPU holds none."""
    parameters = {
        "request": request,
        "data_root": data_root,
        "store": store,
        "report": report,
        "workspace": workspace,
        "tracking_uri": tracking_uri,
        "tracking_run": tracking_run,
    }
    train_evaluate = components.train_evaluate(**parameters)
    export = components.export(**parameters).after(train_evaluate)
    for task, memory in ((train_evaluate, _OF_TRAINING), (export, _OF_OTHERS)):
        task.set_cpu_limit("4").set_memory_limit(memory).set_caching_options(enable_caching=False)
