"""Stateful fakes of the ports, in memory. They pass the same contract tests as the engines."""
