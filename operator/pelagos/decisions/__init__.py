"""Pure rules: they turn observations into verdicts and effects. No clock, no I/O, no Kubernetes."""
