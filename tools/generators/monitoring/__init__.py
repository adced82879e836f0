"""What monitoring systems are given: dashboards, and manifests made from rules. Run by `make generate`, never by the operator."""
