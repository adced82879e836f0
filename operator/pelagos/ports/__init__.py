"""What the operator needs from outside, in its own words: small Protocols, frozen values, and a shipped fake for each."""
