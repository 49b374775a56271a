// Informer holds everything that an API serves, each kind by an informer of client-go, as controllers do. It prints
// what its handlers are told, a line of JSON each, until it is killed.
//
// Arguments: a kubeconfig. KUBE_FEATURE_WatchListClient chooses between streamed and paged lists.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// line is what a handler was told of an object, or that a kind is synced.
type line struct {
	Event    string `json:"event"`
	Resource string `json:"resource"`
	Key      string `json:"key,omitempty"`
	Version  string `json:"version,omitempty"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: informer KUBECONFIG")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "informer:", err)
		os.Exit(1)
	}
}

func run(kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	kinds, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	served, err := watched(kinds)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}

	forever := make(chan struct{})
	factory := dynamicinformer.NewDynamicSharedInformerFactory(client, 0)
	tell := teller()
	for _, resource := range served {
		informer := factory.ForResource(resource).Informer()
		told, err := informer.AddEventHandler(handler(resource.Resource, tell))
		if err != nil {
			return err
		}
		go func() {
			if cache.WaitForCacheSync(forever, told.HasSynced) {
				tell(line{Event: "synced", Resource: resource.Resource})
			}
		}()
	}
	factory.Start(forever)
	<-forever
	return nil
}

// watched says what can be listed and watched.
func watched(client *discovery.DiscoveryClient) ([]schema.GroupVersionResource, error) {
	lists, err := client.ServerPreferredResources()
	if err != nil {
		return nil, err
	}
	var found []schema.GroupVersionResource
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, resource := range list.APIResources {
			if slices.Contains(resource.Verbs, "list") && slices.Contains(resource.Verbs, "watch") {
				found = append(found, version.WithResource(resource.Name))
			}
		}
	}
	if len(found) == 0 {
		return nil, errors.New("the API serves nothing that can be watched")
	}
	return found, nil
}

func handler(resource string, tell func(line)) cache.ResourceEventHandler {
	about := func(event string, object any) {
		if last, ok := object.(cache.DeletedFinalStateUnknown); ok {
			object = last.Obj
		}
		of := object.(*unstructured.Unstructured)
		key := cache.MetaObjectToName(of).String()
		tell(line{Event: event, Resource: resource, Key: key, Version: of.GetResourceVersion()})
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { about("added", object) },
		UpdateFunc: func(_, object any) { about("updated", object) },
		DeleteFunc: func(object any) { about("deleted", object) },
	}
}

// teller prints lines one after the other, whoever tells them.
func teller() func(line) {
	var lock sync.Mutex
	printed := json.NewEncoder(os.Stdout)
	return func(told line) {
		lock.Lock()
		defer lock.Unlock()
		if err := printed.Encode(told); err != nil {
			os.Exit(1)
		}
	}
}
