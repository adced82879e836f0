"""Training: one module per model family behind the interface in families.py, and the tracking of a run."""
