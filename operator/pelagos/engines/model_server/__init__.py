"""Model servers on a cluster, whoever makes their pods; below kserve and deployment."""
