"""From a collection as it was found to an immutable version: cleaning, splitting, storing."""
