// Reads resources of Kubernetes, each a line of JSON, and answers each with a line: what kstatus makes of it, or why it makes nothing.
// Used by tests alone.
package main

import (
	"bufio"
	"encoding/json"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

const longestLine = 64 << 20

type answer struct {
	Status  status.Status `json:"status,omitempty"`
	Message string        `json:"message"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, longestLine)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		if err := answers.Encode(read(lines.Bytes())); err != nil {
			os.Exit(1)
		}
	}
}

func read(line []byte) answer {
	var resource unstructured.Unstructured
	if err := resource.UnmarshalJSON(line); err != nil {
		return answer{Message: err.Error()}
	}
	found, err := status.Compute(&resource)
	if err != nil {
		return answer{Message: err.Error()}
	}
	return answer{Status: found.Status, Message: found.Message}
}
