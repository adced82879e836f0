"""How findable, accessible, interoperable and reusable a dataset is: the 41 indicators of the RDA FAIR Data Maturity Model."""
