"""Predictions of models, in the JSON form of the service contract: merged from tiles, and drawn on images.

Called by ``pelagos predict`` with the responses of servers, and by a model's container image (pelagos_pipelines.deepaas). Each
task has an entry in `pictures.DRAWN`; tasks that label pixels have another in `pixel_tiles.MERGES`.
"""
