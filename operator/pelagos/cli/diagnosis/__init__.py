"""What `pelagos doctor` looks at: one module per part of the world; each check tells findings and changes nothing."""
