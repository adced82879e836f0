"""One module per kind: gather, decide, act, report. One place maps errors to conditions."""
