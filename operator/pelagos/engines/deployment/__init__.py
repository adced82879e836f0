"""Model servers as plain Deployments."""
