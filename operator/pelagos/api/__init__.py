"""The resources: one module per kind, labels and annotations, and the CRDs rendered from them."""
