"""The hub: pages on which people look at models and try them. It reads the API server, writes Trials, and knows no operator."""
