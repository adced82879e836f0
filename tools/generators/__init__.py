"""Writes what is generated from the code and committed: CRDs, manifests, chart, dashboards, rules, pages. Not in the wheel."""
