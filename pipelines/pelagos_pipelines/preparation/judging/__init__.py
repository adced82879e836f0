"""What is in a version, for people to look at: figures by class, split and slice, samples, and boxes that are unusual.

``making`` makes the report that stands beside a version. It is no part of the version, and nothing is decided by it here.
"""
