"""Tracking and model registry on an MLflow server."""
