package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// Between two looks at something that becomes ready.
	pollInterval = 20 * time.Millisecond
	// Another process may take the chosen port between its release and the API server's start.
	portAttempts = 3
)

// nodeNames are the machines that kwok plays. Two, so that spreading and draining mean something.
var nodeNames = []string{"node-a", "node-b"}

// plane is one running control plane; everything it writes is in dir.
type plane struct {
	dir string
	// The file of kwok's stages: what happens to nodes and pods, and when.
	stages string
	// What the API server stores in.
	store store
	// Told when a component ends that was to run until stop.
	fail    context.CancelCauseFunc
	server  string
	client  *kubernetes.Clientset
	started []*component
}

func (p *plane) path(name string) string { return p.dir + "/" + name }

func (p *plane) kubeconfig() string { return p.path("admin.kubeconfig") }

// start returns when a pod created now would be scheduled and run, and says how long each step took.
func (p *plane) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startDeadline,
		fmt.Errorf("not ready within %v; is the machine overloaded?", startDeadline))
	defer cancel()

	begin := time.Now()
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{p.store.name + " and API server", p.startServer},
		{"controllers, scheduler and nodes", p.startNodes},
	} {
		stepBegin := time.Now()
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("start %s: %w", step.name, err)
		}
		report(step.name, stepBegin)
	}
	report("control plane at "+p.server, begin)
	return nil
}

func report(what string, since time.Time) {
	fmt.Fprintf(os.Stderr, "control-plane: %-42s ready in %4.1f s\n", what, time.Since(since).Seconds())
}

func (p *plane) stop() {
	for _, c := range p.started {
		c.kill()
	}
}

// keep has a component run until stop: should it end sooner, the whole run fails.
func (p *plane) keep(c *component) {
	p.started = append(p.started, c)
	go func() {
		<-c.done
		p.fail(c.failure())
	}()
}

func (p *plane) startServer(ctx context.Context) error {
	credentials, err := newCredentials(p.dir)
	if err != nil {
		return err
	}
	store, err := p.store.launch(p)
	if err != nil {
		return err
	}
	p.keep(store)
	for attempt := 1; ; attempt++ {
		port, err := freePort()
		if err != nil {
			return err
		}
		p.server = fmt.Sprintf("https://127.0.0.1:%d", port)
		if err := credentials.writeKubeconfigs(p.dir, p.server); err != nil {
			return err
		}
		clashed, err := p.tryServer(ctx, port)
		if err == nil || !clashed || attempt == portAttempts {
			return err
		}
	}
}

// tryServer starts the API server on a port; clashed tells that another process has that port.
func (p *plane) tryServer(ctx context.Context, port int) (clashed bool, err error) {
	config, err := clientcmd.BuildConfigFromFlags("", p.kubeconfig())
	if err != nil {
		return false, err
	}
	config.QPS = -1
	if p.client, err = kubernetes.NewForConfig(config); err != nil {
		return false, err
	}
	server, err := launch(p.dir, "kube-apiserver", serverArguments(p, port))
	if err != nil {
		return false, err
	}
	err = poll(ctx, func() bool { return server.hasEnded() || p.serverReady(ctx) })
	if server.hasEnded() {
		return bytes.Contains(server.logTail(), []byte("address already in use")), server.failure()
	}
	p.keep(server)
	return false, err
}

func (p *plane) startNodes(ctx context.Context) error {
	for name, arguments := range map[string][]string{
		"kube-controller-manager": controllerArguments(p),
		"kube-scheduler":          schedulerArguments(p),
		"kwok":                    kwokArguments(p),
	} {
		c, err := launch(p.dir, name, arguments)
		if err != nil {
			return err
		}
		p.keep(c)
	}
	for _, name := range nodeNames {
		labels := map[string]string{v1.LabelHostname: name, v1.LabelOSStable: "linux", v1.LabelArchStable: "arm64"}
		node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
		if _, err := p.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create node %s: %w", name, err)
		}
	}
	return poll(ctx, func() bool { return p.nodesReady(ctx) && p.serviceAccountReady(ctx) })
}

func (p *plane) serverReady(ctx context.Context) bool {
	return p.client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() == nil
}

func (p *plane) nodesReady(ctx context.Context) bool {
	nodes, err := p.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return false
	}
	ready := 0
	for _, node := range nodes.Items {
		for _, condition := range node.Status.Conditions {
			if condition.Type == v1.NodeReady && condition.Status == v1.ConditionTrue && len(node.Spec.Taints) == 0 {
				ready++
			}
		}
	}
	return ready == len(nodeNames)
}

// serviceAccountReady tells that the controllers run: no pod is admitted before they made its account.
func (p *plane) serviceAccountReady(ctx context.Context) bool {
	_, err := p.client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
	return err == nil
}

// poll looks until the condition holds or the context ends, and then says why it ended.
func poll(ctx context.Context, condition func() bool) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
	return nil
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
