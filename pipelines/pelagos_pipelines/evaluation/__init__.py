"""Evaluation on the test split that training never saw: metrics by reference implementations, and figures."""
