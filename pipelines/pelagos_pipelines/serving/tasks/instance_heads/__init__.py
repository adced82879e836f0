"""The kinds of outputs that networks for instance segmentation have: one module each, with an `InstanceHead` as STRATEGY."""
