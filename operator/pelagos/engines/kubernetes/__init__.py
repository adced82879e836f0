"""The Kubernetes API: requests, objects, watches, Leases, tenants."""
