"""The configuration of the Envoy in front of every model server."""
