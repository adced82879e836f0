"""The data plane of Pelagos: what runs inside pipeline steps. Knows neither kopf nor Kubernetes."""
