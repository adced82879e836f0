"""kopf decorators only: every event about a resource leads to the same reconcile call."""
