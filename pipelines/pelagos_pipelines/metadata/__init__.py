"""Metadata documents of a version for others, written from spec.metadata and from the version's content."""
