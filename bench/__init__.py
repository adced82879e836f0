"""Measurements of Pelagos against peers and limits that are measured in the same run. `make bench` runs them; see run.py."""
