//go:build tools

// What is built here, for tests alone, and how many processor seconds that costs.
package main

import (
	_ "pelagos/upstream/kstatus" // kstatus 60
)
