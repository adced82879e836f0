"""The gateway: where people call models. It configures an Envoy proxy and authorizes every request that passes through it."""
