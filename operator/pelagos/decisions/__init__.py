"""Pure rules: they turn what was observed into verdicts and effects. No clock, no I/O, no Kubernetes."""
