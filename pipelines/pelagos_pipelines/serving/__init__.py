"""What runs inside the inference server; its modules are copied into every model package and import nothing of Pelagos."""
