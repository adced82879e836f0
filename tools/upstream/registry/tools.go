//go:build tools

// What is built of go-containerregistry, for tests alone, and how many processor seconds that costs.
package tools

import (
	_ "github.com/google/go-containerregistry/cmd/registry" // registry 60
)
