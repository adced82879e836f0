"""The hub: a web site to browse and try models. It reads the API server, writes Trials, and is independent of the operator."""
