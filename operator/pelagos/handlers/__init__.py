"""kopf decorators only: every event of a kind leads to the same reconcile call."""
