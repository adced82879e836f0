"""Evaluation on the test split, which training never sees: metrics by reference definitions, and figures."""
