"""The gateway: where people call models. It tells an Envoy what to let through, and judges who comes."""
