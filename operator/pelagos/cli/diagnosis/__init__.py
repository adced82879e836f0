"""What `pelagos doctor` looks at: one module per area; each check returns findings and changes nothing."""
