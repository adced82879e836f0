"""Tracking and the model registry in MLflow."""
