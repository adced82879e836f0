"""A real Kubernetes of one or two nodes for tests, in its own Linux namespaces: see cluster.py."""
