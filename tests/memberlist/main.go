// A counterpart for the tests of our gossip: real members of github.com/hashicorp/memberlist.
//
//	memberlist member NAME ADDRESS PORT [key=HEX] [profile=lan|wan|local] [meta=TEXT] [label=TEXT] [join=ADDRESS:PORT,...]
//
// runs one member, configured as MetalLB's speaker configures it: the node's name, one address for both bind and
// advertise, the default profile. Each change is a line on standard output, followed by the list that holds then:
//
//	joined NAME | left NAME | updated NAME META | conflict NAME | members NAME,NAME,...
//
// SIGTERM leaves with a second's time and ends, as the speaker does; SIGKILL is a crash. A member that cannot join goes on
// trying every second.
//
//	memberlist vectors
//
// lets small clusters live through a few seconds on the loopback interface and prints what they sent, for the tests of the
// codec (crates/gossip/tests/vectors.txt).
package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	switch {
	case len(arguments) == 1 && arguments[0] == "vectors":
		return vectors()
	case len(arguments) >= 4 && arguments[0] == "member":
		return member(arguments[1], arguments[2], arguments[3], arguments[4:])
	}
	return fmt.Errorf("usage: memberlist member NAME ADDRESS PORT [OPTION=VALUE...] | memberlist vectors")
}

// teller prints what a member learns.
type teller struct {
	lock sync.Mutex
	list map[string]struct{}
	meta []byte
}

func (t *teller) say(what string, change func()) {
	t.lock.Lock()
	defer t.lock.Unlock()
	change()
	names := make([]string, 0, len(t.list))
	for name := range t.list {
		names = append(names, name)
	}
	slices.Sort(names)
	fmt.Printf("%s\nmembers %s\n", what, strings.Join(names, ","))
}

func (t *teller) NotifyJoin(node *memberlist.Node) {
	t.say("joined "+node.Name, func() { t.list[node.Name] = struct{}{} })
}

func (t *teller) NotifyLeave(node *memberlist.Node) {
	t.say("left "+node.Name, func() { delete(t.list, node.Name) })
}

func (t *teller) NotifyUpdate(node *memberlist.Node) {
	t.say(fmt.Sprintf("updated %s %q", node.Name, node.Meta), func() {})
}

func (t *teller) NotifyConflict(existing, _ *memberlist.Node) {
	t.say("conflict "+existing.Name, func() {})
}

func (t *teller) NodeMeta(int) []byte               { return t.meta }
func (t *teller) NotifyMsg([]byte)                  {}
func (t *teller) GetBroadcasts(_, _ int) [][]byte   { return nil }
func (t *teller) LocalState(bool) []byte            { return nil }
func (t *teller) MergeRemoteState(_ []byte, _ bool) {}

func member(name, address, port string, options []string) error {
	number, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("the port %q is no number", port)
	}
	told := &teller{list: map[string]struct{}{}}
	config := memberlist.DefaultLANConfig()
	var join []string
	for _, option := range options {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "key":
			if config.SecretKey, err = hex.DecodeString(value); err != nil {
				return fmt.Errorf("the key is not hexadecimal")
			}
		case "profile":
			switch value {
			case "lan":
			case "wan":
				config = memberlist.DefaultWANConfig()
			case "local":
				config = memberlist.DefaultLocalConfig()
			default:
				return fmt.Errorf("there is no profile %q", value)
			}
		case "meta":
			told.meta = []byte(value)
		case "label":
			config.Label = value
		case "join":
			join = strings.Split(value, ",")
		default:
			return fmt.Errorf("there is no option %q", key)
		}
	}
	config.Name = name
	config.BindAddr, config.BindPort, config.AdvertisePort = address, number, number
	config.Events, config.Conflict = told, told
	if told.meta != nil {
		config.Delegate = told
	}
	list, err := memberlist.Create(config)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	retry := time.NewTicker(time.Second)
	defer retry.Stop()
	for joined := len(join) == 0; ; {
		if !joined {
			_, err := list.Join(join)
			joined = err == nil
		}
		select {
		case <-stop:
			if err := list.Leave(time.Second); err != nil {
				fmt.Fprintln(os.Stderr, "leaving:", err)
			}
			return list.Shutdown()
		case <-retry.C:
		}
	}
}
