//go:build tools

// What is built of kwok, for measurements alone, and how many processor seconds that costs.
package tools

import (
	_ "sigs.k8s.io/kwok/cmd/kwok" // kwok 200
)
