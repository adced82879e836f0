"""The messages between control plane and data plane, and code that both share.

Imported by both; it depends on neither of them, nor on Kubernetes or a training framework. Modules without pydantic (see the
import contracts) may also be used by the code that serves models, whose environment has no pydantic.
"""
