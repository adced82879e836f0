"""Pelagos: a Kubernetes operator and MLOps control plane for aquatic image collections and models."""
