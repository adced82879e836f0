"""What runs in a pod that serves: how the server starts, and the code of models.

``model`` and ``predictor`` are copied into every model package and import nothing of Pelagos.
"""
