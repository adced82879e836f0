"""Model servers as processes on this machine."""
