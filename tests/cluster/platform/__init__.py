"""The surroundings of Pelagos as pods of the test cluster: MLflow, object storage, fake servers for Kubeflow and KServe."""
