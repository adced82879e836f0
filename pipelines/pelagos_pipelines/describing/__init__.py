"""Documents of a model for people and catalogues: its report, its card, and its entries by the rules of others."""
