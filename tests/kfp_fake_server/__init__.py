"""A fake server for a Kubeflow Pipelines server, made from its published API description: ``python -m kfp_fake_server --help``.

It speaks v2beta1 (experiments, runs, health), checks every request and every reply against the description, and really runs the
steps of submitted runs: as processes of this machine, or as pods through a Kubernetes API. It knows nothing of Pelagos. `faults`
switches on failures of real servers. The official ``kfp.Client`` works with it.
"""
