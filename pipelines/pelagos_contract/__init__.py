"""What the control plane and the data plane say to each other, and what both need to say it.

Imported by both; knows neither of them, no Kubernetes and no training framework. Modules without pydantic (see the import
contracts) may be used by the code that serves models, whose environment has none.
"""
