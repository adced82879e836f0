"""What all Triton servers have in common: packages, configuration, the inference protocol, the probe."""
