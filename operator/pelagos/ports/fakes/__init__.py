"""Stateful stand-ins for the ports, held to the same tests as the engines."""
