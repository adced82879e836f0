"""FAIR assessment of datasets by the 41 indicators of the RDA FAIR Data Maturity Model."""
