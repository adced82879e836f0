"""``pelagos logs``: what the steps of a pipeline run, or the servers of a model, have said."""
