"""Documents of a model for people and catalogues: its report, its card, and its catalogue entries."""
