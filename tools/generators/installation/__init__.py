"""Generates manifests that follow from the code: roles, admission policies, definitions, and the chart's copies of them."""
