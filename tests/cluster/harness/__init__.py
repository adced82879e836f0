"""A real Kubernetes of one node for tests, from Debian's packages, in Linux namespaces of its own: see cluster.py."""
