"""Generates files for monitoring systems: dashboards, and manifests from rules. Run by `make generate`, never by the operator."""
