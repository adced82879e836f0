"""Everything the operator needs from outside, in its own terms: small Protocols, frozen values, and a shipped fake for each."""
