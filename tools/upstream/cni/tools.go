//go:build tools

// What is built of the CNI plugins: program and processor seconds, the first with what all share.
package tools

import (
	_ "github.com/containernetworking/plugins/plugins/ipam/host-local" // host-local 4
	_ "github.com/containernetworking/plugins/plugins/main/bridge"     // bridge 12
	_ "github.com/containernetworking/plugins/plugins/main/loopback"   // loopback 2
	_ "github.com/containernetworking/plugins/plugins/meta/portmap"    // portmap 4
)
