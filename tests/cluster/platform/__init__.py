"""What a cluster has around Pelagos, as pods of the test cluster: MLflow, object storage, stand-ins for Kubeflow and KServe."""
