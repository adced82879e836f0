"""What the operator needs from the world, in its own words: small Protocols, frozen values, and a shipped fake for each."""
