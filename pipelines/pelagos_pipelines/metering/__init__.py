"""Measures the cost of a training's steps: time, processors, accelerators, energy. Nothing here may delay or fail a step."""
