"""Runs pipelines on a Kubeflow Pipelines server."""
