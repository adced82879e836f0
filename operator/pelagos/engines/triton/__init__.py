"""Code for all Triton servers: packages, configuration, the inference protocol, the probe."""
