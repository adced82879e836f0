"""The kinds of outputs of networks for instance segmentation: one module each, with an `InstanceHead` as STRATEGY."""
