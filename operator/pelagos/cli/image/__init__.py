"""``pelagos image``: a served model as a separate container image, and its description for OSCAR."""
