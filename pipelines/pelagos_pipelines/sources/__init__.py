"""Places that images and labels come from; one module each, named in registry.py."""
