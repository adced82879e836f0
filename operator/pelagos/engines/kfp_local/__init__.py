"""Pipelines as processes of this machine, by kfp.local."""
