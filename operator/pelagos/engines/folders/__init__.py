"""What lies in folders of this machine or of a mounted volume: objects, volumes, and the operator's keys."""
