"""Measurements on a GPU, where one is available; see measure.py."""
