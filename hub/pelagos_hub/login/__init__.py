"""Login by an OpenID provider or by a one-time link on the machine itself; sessions; forms protected against forgery."""
