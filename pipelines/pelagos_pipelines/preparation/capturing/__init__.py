"""Reads when and where images were taken, and by what (``spec.capture``), and tells what is not known.

Called by the step prepare. applying is the entrance; documents and exif run in children of the sandbox.
"""
