"""The data plane of Pelagos: the code that runs in pipeline steps. Independent of kopf and Kubernetes."""
