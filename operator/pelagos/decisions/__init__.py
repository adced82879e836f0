"""Pure rules: what is seen goes in, what must hold next comes out. No clock, no I/O, no Kubernetes."""
