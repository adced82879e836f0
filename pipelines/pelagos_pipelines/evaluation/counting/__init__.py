"""Computes metrics for any multiset of a split's images, from tables of a model's results on each image. Independent of tasks.

A table is a mapping of columns, arrays of equal length; ``image`` and ``class`` are indices. Weights are integers, the
multiplicity of each image in each of many multisets: ``[multisets, images]``. Results are ``[multisets]``, NaN where a metric is
undefined.
"""
