"""The internal annotation model, and one reader and writer module per format (see registry.py for the list)."""
