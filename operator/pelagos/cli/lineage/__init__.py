"""``pelagos lineage``: from the source of a collection to the endpoint, with a digest for each link that can be recomputed."""
