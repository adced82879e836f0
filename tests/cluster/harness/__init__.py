"""A real Kubernetes of one or two nodes for tests, in Linux namespaces of their own: see cluster.py."""
