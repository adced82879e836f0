"""Flows: straight lines of components. The control plane launches their compiled form and knows nothing else of this package.

Gates, retries, caching and time limits belong to the operator: control flow behaves differently in kfp.local and on a
cluster, and our steps are re-entrant, so kfp's caching is off.
"""
