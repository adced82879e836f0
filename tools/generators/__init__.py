"""Writes the committed files generated from the code: CRDs, manifests, chart, dashboards, rules, pages. Not in the wheel."""
