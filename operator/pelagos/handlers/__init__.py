"""What kopf calls, and what it hears: every event of every kind goes to the one loop."""
