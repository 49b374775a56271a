package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// storeVariable names the store: etcd, which is the default, or kine.
const storeVariable = "EDGEFLEET_TEST_STORE"

// store is what an API server stores in.
type store struct {
	name string
	// The socket in the plane's folder at which it listens.
	socket string
	launch func(*plane) (*component, error)
}

var stores = map[string]store{
	"etcd": {"etcd", etcdSocket, func(p *plane) (*component, error) {
		return launch(p.dir, "etcd", etcdArguments(p))
	}},
	// A program of its own beside this one: it wants other versions of what this one is made of.
	"kine": {"kine", kineSocket, func(p *plane) (*component, error) {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		return launchProgram(filepath.Join(filepath.Dir(self), "kine"), p.dir, "kine", kineArguments(p))
	}},
}

// chosenStore is the one that the environment names.
func chosenStore() (store, error) {
	name := os.Getenv(storeVariable)
	if name == "" {
		name = "etcd"
	}
	chosen, known := stores[name]
	if !known {
		return store{}, fmt.Errorf("%s is %q: set it to etcd or kine, or to nothing", storeVariable, name)
	}
	return chosen, nil
}
