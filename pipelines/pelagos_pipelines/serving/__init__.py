"""What serves a model: how the server starts, what a package is made of, and the code of all models.

`code.json` lists the files of this data plane, and of the contract, that the server's Python backend loads. They come from the
installation of whoever starts the server, never from a package.
"""
