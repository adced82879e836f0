"""Runs pipelines as processes on this machine, with kfp.local."""
