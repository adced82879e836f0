"""Versions put into repositories with InvenioRDM, such as Zenodo. The steps call it; it knows no operator.

What a record says (description), what is in it (packing), the repository's API (inveniordm), and how a record comes about whoever
dies in between (publication).
"""
