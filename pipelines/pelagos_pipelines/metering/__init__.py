"""Measures what the steps of a training take: time, processors, accelerators, energy. Nothing here may hold up or end a step."""
