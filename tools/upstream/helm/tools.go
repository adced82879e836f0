//go:build tools

// What is built of Helm, for tests alone, and how many processor seconds that costs.
package tools

import (
	_ "helm.sh/helm/v4/cmd/helm" // helm 320
)
