//go:build tools

// What is built of Kubernetes: program and processor seconds, the first with what all share.
// version strings: k8s.io/component-base/version k8s.io/client-go/pkg/version
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"          // kube-apiserver 900
	_ "k8s.io/kubernetes/cmd/kube-controller-manager" // kube-controller-manager 200
	_ "k8s.io/kubernetes/cmd/kube-proxy"              // kube-proxy 40
	_ "k8s.io/kubernetes/cmd/kube-scheduler"          // kube-scheduler 60
	_ "k8s.io/kubernetes/cmd/kubectl"                 // kubectl 180
	_ "k8s.io/kubernetes/cmd/kubelet"                 // kubelet 240
)
