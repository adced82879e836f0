"""What a GPU is measured with, where one is at hand; see measure.py."""
