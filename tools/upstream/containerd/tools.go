//go:build tools

// What is built of containerd: program and processor seconds, the first with what all share.
// build tags: no_btrfs
package tools

import (
	_ "github.com/containerd/containerd/v2/cmd/containerd"              // containerd 200
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2" // containerd-shim-runc-v2 20
	_ "github.com/containerd/containerd/v2/cmd/ctr"                     // ctr 20
)
