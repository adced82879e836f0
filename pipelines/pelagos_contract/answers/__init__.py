"""What models answer, in the JSON shape of the service contract: put together from tiles, and drawn.

Called by ``pelagos predict`` with what servers say, and by the container image that holds a model
(pelagos_pipelines.deepaas). Each task has a line in `pictures.DRAWN`, one that labels pixels another in `pixel_tiles.MERGES`.
"""
