"""Resolves classes to taxa, by a service (worms) with a cache of its answers (answers), or by a table in the source (table).

The step prepare calls `naming` once classes have their names. It uses the other modules, which only share the types in `taxa`.
"""
