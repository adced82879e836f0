"""Processes on this machine and their sockets; used by the local engines."""
