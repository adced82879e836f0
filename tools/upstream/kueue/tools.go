//go:build tools

// What is built of Kueue: program and processor seconds.
package tools

import (
	_ "sigs.k8s.io/kueue/cmd/kueue" // kueue 540
)
