"""Benchmarks of Pelagos, compared with peers and limits that are measured in the same run. `make bench` runs them; see run.py."""
