"""The Kubernetes API: requests, objects, Leases, tenants."""
