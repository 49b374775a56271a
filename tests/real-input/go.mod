// The projects whose manifests the tests apply, as published. Nothing here is compiled:
// the harness fetches a module when a test asks for its folder.
module edgefleet/tests/real-input

go 1.26.0

require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/prometheus-operator/prometheus-operator v0.85.0
	sigs.k8s.io/gateway-api v1.6.3
)
