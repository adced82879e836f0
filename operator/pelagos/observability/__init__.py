"""Prometheus metrics, Kubernetes events, structured logs."""
