"""One module per outside system behind a port. Engines do not know each other; only wiring chooses them."""
