"""Envoy's configuration: what stands before every model server."""
