package main

import "fmt"

// The service and pod networks are those k3s uses.
const (
	serviceNetwork = "10.43.0.0/16"
	podNetwork     = "10.42.0.0/16"
)

// Etcd insists on a port in an address; for a socket it takes all as the name of a file in its folder.
const etcdSocket = "etcd:0"

// etcdArguments put etcd on sockets in the plane's folder, so that it needs no port, and let it skip fsync.
func etcdArguments(p *plane) []string {
	client, peer := "unix://"+etcdSocket, "unix://etcd-peer:0"
	return []string{
		"--name=test",
		"--data-dir=" + p.path("etcd-data"),
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=test=" + peer,
		"--unsafe-no-fsync",
		"--log-level=warn",
	}
}

// kineSocket is the name of kine's socket in the plane's folder.
const kineSocket = "kine.sock"

// kineArguments are those of k3s, which stores in SQLite: with a log beside the file, and long waits for its lock.
func kineArguments(p *plane) []string {
	return []string{
		"--endpoint=sqlite://" + p.path("state.db") + "?_journal=WAL&cache=shared&_busy_timeout=30000",
		"--listen-address=unix://" + p.path(kineSocket),
		"--metrics-bind-address=0",
	}
}

func serverArguments(p *plane, port int) []string {
	return []string{
		"--etcd-servers=unix://" + p.path(p.store.socket),
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", port),
		// The reconciler would publish this address as the `kubernetes` service, where loopback is not allowed.
		"--endpoint-reconciler-type=none",
		"--cert-dir=" + p.path("certificates"),
		"--tls-cert-file=" + p.path("server.crt"),
		"--tls-private-key-file=" + p.path("server.key"),
		"--client-ca-file=" + p.path("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + p.path("service-accounts.key"),
		"--service-account-signing-key-file=" + p.path("service-accounts.key"),
		"--service-cluster-ip-range=" + serviceNetwork,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
	}
}

func controllerArguments(p *plane) []string {
	return []string{
		"--kubeconfig=" + p.path("kube-controller-manager.kubeconfig"),
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + p.path("service-accounts.key"),
		"--root-ca-file=" + p.path("ca.crt"),
		"--leader-elect=false",
		"--secure-port=0",
		// Many tests share these controllers; the defaults (20 and 30) are meant to spare a busy API server.
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
		// A busy machine may starve kwok for a while; its nodes are none the worse.
		"--node-monitor-grace-period=5m",
	}
}

func schedulerArguments(p *plane) []string {
	return []string{
		"--kubeconfig=" + p.path("kube-scheduler.kubeconfig"),
		"--leader-elect=false",
		"--secure-port=0",
	}
}

func kwokArguments(p *plane) []string {
	return []string{
		"--kubeconfig=" + p.path("admin.kubeconfig"),
		"--config=" + p.stages,
		"--manage-all-nodes=true",
		"--cidr=" + podNetwork,
		// Its stages leave it to leases to say that a node lives; by default it keeps none.
		"--node-lease-duration-seconds=40",
	}
}
