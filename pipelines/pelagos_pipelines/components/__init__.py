"""Thin Kubeflow components, one per step. Flows chain them; their bodies import the step where they run and call it.

A component's source is copied into the compiled pipeline, so it must be self-contained: it imports inside its body, and refers to
nothing else in its module. The step's code comes from the image, or locally from the running environment; nothing is installed.
"""

IMAGE = "ghcr.io/pelagos/trainer:0.1.0-python3.11"
"""The image that holds the data plane. kfp.local warns of images without "python" in their name."""
