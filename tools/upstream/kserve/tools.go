//go:build tools

// What is built of KServe: program and processor seconds.
package tools

import (
	_ "github.com/kserve/kserve/cmd/manager" // manager 420
)
