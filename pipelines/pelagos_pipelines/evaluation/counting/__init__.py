"""Metrics of a split counted anew for any multiset of its images, from tables of what a model did with each. Knows no task.

A table is a mapping of columns, arrays of equal length; ``image`` and ``class`` are indices. Weights are whole numbers, how often
each image stands in each of many multisets: ``[multisets, images]``. Results are ``[multisets]``, NaN where one says nothing.
"""
