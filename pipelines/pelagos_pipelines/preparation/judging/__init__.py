"""Builds the report of a version for people: figures by class, split and slice, samples, and unusual boxes.

``making`` writes the report beside a version. It is not part of the version, and no decision depends on it.
"""
