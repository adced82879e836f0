"""Stateful fake servers for the ports, held to the same tests as the engines."""
