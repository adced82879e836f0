"""Turns a collection into an immutable version: inspection, cleaning, splitting, storing."""
