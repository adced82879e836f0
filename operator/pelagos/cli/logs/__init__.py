"""``pelagos logs``: the logs of a pipeline run's steps, or of a model's servers."""
