//go:build tools

// What is built of etcd: program and processor seconds.
package tools

import (
	_ "go.etcd.io/etcd/server/v3" // etcd 90
)
