"""What the catalogue says of models: pure, from objects of the API server as they are in memory."""
