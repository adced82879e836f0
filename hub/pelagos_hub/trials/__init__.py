"""Trying a model: a Trial in the cluster, a token that only the session knows, and images that go through the gateway."""
