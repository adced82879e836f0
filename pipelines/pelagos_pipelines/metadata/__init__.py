"""Documents that tell a version's metadata to others, each written from spec.metadata and from what the version holds."""
