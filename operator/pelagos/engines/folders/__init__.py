"""Objects, data volumes and the operator's keys in folders, on this machine or on a mounted volume."""
