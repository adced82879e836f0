"""Processes of this machine and their sockets; below the local engines."""
