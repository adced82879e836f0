"""The objects of an installation, by subject, as nodes."""
