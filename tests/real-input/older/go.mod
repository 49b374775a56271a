// The versions before those of the folder above: tests upgrade from one to the other.
module edgefleet/tests/real-input/older

go 1.26.0

require (
	github.com/cert-manager/cert-manager v1.21.0
	github.com/prometheus-operator/prometheus-operator v0.83.0
	k8s.io/kubernetes v1.32.13
	sigs.k8s.io/gateway-api v1.5.1
)
