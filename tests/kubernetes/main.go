// Command kubernetes is a real Kubernetes in one program, for tests: the control plane, what runs on nodes, and kubectl.
//
// It picks its face by the name it is called by, or by its first argument, which is the name of an upstream program.
// Everything behind a face is the upstream module's own code, started the way its own main starts it.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// faces maps the name of an upstream program to what runs it; the arguments are the program's own, name first.
var faces = map[string]func(args []string) int{
	"etcd": func(args []string) int {
		etcdmain.Main(args)
		return 0
	},
	"kube-apiserver":          cobraFace(apiserver.NewAPIServerCommand),
	"kube-controller-manager": cobraFace(controllermanager.NewControllerManagerCommand),
	"kube-proxy":              cobraFace(proxy.NewProxyCommand),
	"kube-scheduler":          cobraFace(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kubelet":                 cobraFace(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	"kubectl": func(args []string) int {
		os.Args = args
		if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
			util.CheckErr(err)
		}
		return 0
	},
}

func cobraFace(command func() *cobra.Command) func(args []string) int {
	return func(args []string) int {
		c := command()
		c.SetArgs(args[1:])
		return cli.Run(c)
	}
}

func main() {
	args := append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)
	if _, known := faces[args[0]]; !known && len(args) > 1 {
		args = args[1:]
	}
	face, known := faces[args[0]]
	if !known {
		names := make([]string, 0, len(faces))
		for name := range faces {
			names = append(names, name)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "usage: %s %s [arguments]\n", filepath.Base(os.Args[0]), strings.Join(names, "|"))
		os.Exit(2)
	}
	os.Exit(face(args))
}
