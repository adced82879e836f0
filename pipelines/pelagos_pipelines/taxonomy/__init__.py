"""Which taxa classes are: by a service (worms) with what it said before (answers), or by a table in the source (table).

`naming` is what the step prepare calls, once classes have their names; it knows the other modules, and they each other's values
(taxa) alone.
"""
