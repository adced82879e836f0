"""The command line: `pelagos ...` (typer and rich)."""
