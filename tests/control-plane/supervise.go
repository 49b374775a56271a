package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

const (
	// The components need about 8 seconds on two idle cores; a loaded machine gets ten times that.
	startDeadline = 90 * time.Second
	// How long an interrupted command may clean up before it is killed.
	commandGrace = 10 * time.Second
)

// supervise starts a control plane, runs the command against it and returns the command's exit code.
// Whatever ends first, everything this started is ended and its folder removed.
func supervise(command []string) int {
	if len(command) == 0 {
		fmt.Fprintln(os.Stderr, "usage: control-plane COMMAND [ARGUMENT]...")
		return 2
	}
	// The kernel kills a component when the thread that started it ends (Pdeathsig), not the process: all
	// are started from this one, which lives as long as the process.
	runtime.LockOSThread()

	interrupted, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithCancelCause(interrupted)
	defer cancel(nil)

	dir, err := os.MkdirTemp("", "edgefleet-control-plane-")
	if err != nil {
		return failed(err)
	}
	defer os.RemoveAll(dir)

	self, err := os.Executable()
	if err != nil {
		return failed(err)
	}
	store, err := chosenStore()
	if err != nil {
		return failed(err)
	}
	stages := filepath.Join(filepath.Dir(self), "stages.yaml")
	plane := &plane{dir: dir, stages: stages, store: store, fail: cancel}
	defer plane.stop()
	if err := plane.start(ctx); err != nil {
		return failed(err)
	}
	code, err := run(ctx, command, plane.kubeconfig())
	if err != nil {
		return failed(err)
	}
	return code
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, "control-plane:", err)
	return 1
}

// run gives the command a process group of its own, so that an interrupt reaches it once, from here, and
// what it leaves behind can be ended with it.
func run(ctx context.Context, command []string, kubeconfig string) (int, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "EDGEFLEET_TEST_KUBECONFIG="+kubeconfig)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = commandGrace
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start %s: %w", command[0], err)
	}
	err := cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)

	if cause := context.Cause(ctx); cause != nil {
		return 0, fmt.Errorf("%s was ended: %w", command[0], cause)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	return 0, err
}
