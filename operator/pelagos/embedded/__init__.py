"""The embedded mode: etcd, kube-apiserver, MLflow and the operator as supervised processes on one machine."""
