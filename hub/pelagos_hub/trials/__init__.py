"""Trials of models: a Trial in the cluster, a token that only the session has, and images sent through the gateway."""
