"""Pipelines in Kubeflow Pipelines."""
