// The kube-apiserver of the conformance rig: upstream's own command, built from its published module.
//
// A program of its own (and not `go install`) because k8s.io/kubernetes names its staging modules at v0.0.0:
// only a main module may replace them with their published versions, which go.mod beside this file does.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	os.Exit(cli.Run(app.NewAPIServerCommand()))
}
