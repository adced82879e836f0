"""The checks of `pelagos doctor`: one module per area; each check returns findings and changes nothing."""
