"""Reads when and where images were taken, and by what (``spec.capture``), and reports what is not known.

Called by the step prepare. applying is the entry point; documents and exif run in sandboxed children.
"""
