package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// How much of a component's log is shown when it fails.
const logTailBytes = 4096

// component is a running component, this program under its name for the most part, its output in a log file.
type component struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// launch starts this program as a component in dir.
func launch(dir, name string, arguments []string) (*component, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return launchProgram(self, dir, name, arguments)
}

// launchProgram starts a component in dir. It is killed with this process, however that ends.
func launchProgram(program, dir, name string, arguments []string) (*component, error) {
	c := &component{name: name, log: dir + "/" + name + ".log", done: make(chan struct{})}
	log, err := os.Create(c.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()

	c.cmd = exec.Command(program, arguments...)
	c.cmd.Args[0] = name
	c.cmd.Dir = dir
	c.cmd.Stdout, c.cmd.Stderr = log, log
	// A group of its own keeps an interrupt at the terminal from it: the command under test ends first.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = c.cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

// kill does not ask: nothing of a test's cluster is worth flushing.
func (c *component) kill() {
	_ = c.cmd.Process.Kill()
	<-c.done
}

func (c *component) hasEnded() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// failure describes a component that has ended, with the end of its log.
func (c *component) failure() error {
	return fmt.Errorf("%s ended (%v); the end of its log:\n%s", c.name, c.cmd.ProcessState, c.logTail())
}

func (c *component) logTail() []byte {
	log, err := os.ReadFile(c.log)
	if err != nil {
		return []byte(err.Error())
	}
	return log[max(0, len(log)-logTailBytes):]
}
