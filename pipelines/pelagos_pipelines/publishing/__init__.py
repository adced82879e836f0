"""Publishes versions in InvenioRDM repositories such as Zenodo. Called by steps; independent of the operator.

The metadata of a record (description), its files (packing), the repository's API (inveniordm), and a crash-safe publication
(publication).
"""
