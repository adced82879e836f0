"""``pelagos image``: a served model as a container image of its own, and its description for OSCAR."""
