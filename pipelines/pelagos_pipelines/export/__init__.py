"""Export: the parity check, and the model package that the serving engine loads."""
