"""``pelagos lineage``: from the source of a collection to the endpoint, each link by a digest that can be computed again."""
