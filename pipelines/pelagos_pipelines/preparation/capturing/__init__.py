"""Reads when, where and how images were taken (``spec.capture``), and reports missing values.

Called by the step prepare. applying is the entry point; documents and exif run in sandboxed children.
"""
