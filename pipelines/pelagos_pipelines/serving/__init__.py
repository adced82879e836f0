"""Serves models: the start of the server, the format of packages, and the code that runs all models.

`code.json` lists the files of this data plane, and of the contract, that the server's Python backend loads. They come from the
installation that starts the server, never from a package.
"""
