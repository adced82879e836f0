"""The catalogue's view of models: pure functions of the API objects in memory."""
