"""Reading and writing files with care; below all engines."""
