package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// The vectors of each message type and variant that are enough.
const vectorsOfAKind = 2

// recorder notes what passes, once for each variant, transport and first byte.
type recorder struct {
	lock sync.Mutex
	seen map[string]int
}

func (r *recorder) note(variant, transport string, payload []byte) {
	if len(payload) == 0 {
		return
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	kind := fmt.Sprintf("%s %s %d", variant, transport, payload[0])
	// Of a compound, what is inside matters too.
	if payload[0] == 7 && len(payload) > 1 {
		first := 2 + 2*int(payload[1])
		kind += fmt.Sprintf(" %d %d", payload[1], payload[first])
	}
	if r.seen[kind] < vectorsOfAKind {
		r.seen[kind]++
		fmt.Printf("%s %s %x\n", variant, transport, payload)
	}
}

// recording is the ordinary transport with a recorder between.
type recording struct {
	*memberlist.NetTransport
	recorder *recorder
	variant  string
}

func (r *recording) WriteToAddress(payload []byte, to memberlist.Address) (time.Time, error) {
	r.recorder.note(r.variant, "packet", payload)
	return r.NetTransport.WriteToAddress(payload, to)
}

func (r *recording) WriteTo(payload []byte, to string) (time.Time, error) {
	return r.WriteToAddress(payload, memberlist.Address{Addr: to})
}

func (r *recording) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	connection, err := r.NetTransport.DialAddressTimeout(to, timeout)
	if err != nil {
		return nil, err
	}
	return &recordedConnection{Conn: connection, transport: r}, nil
}

func (r *recording) DialTimeout(to string, timeout time.Duration) (net.Conn, error) {
	return r.DialAddressTimeout(memberlist.Address{Addr: to}, timeout)
}

type recordedConnection struct {
	net.Conn
	transport     *recording
	read, written bytes.Buffer
}

func (c *recordedConnection) Write(payload []byte) (int, error) {
	c.written.Write(payload)
	return c.Conn.Write(payload)
}

func (c *recordedConnection) Read(into []byte) (int, error) {
	count, err := c.Conn.Read(into)
	c.read.Write(into[:count])
	return count, err
}

func (c *recordedConnection) Close() error {
	c.transport.recorder.note(c.transport.variant, "stream", c.written.Bytes())
	c.transport.recorder.note(c.transport.variant, "stream", c.read.Bytes())
	return c.Conn.Close()
}

// The key that MetalLB derives from the secret AAECAwQFBgcICQoLDA0ODw.
var vectorKey = []byte("AAECAwQFBgcICQoLDA0ODw\xe3\xb0\xc4\x42\x98\xfc\x1c\x14\x9a\xfb")

func vectors() error {
	variants := []struct {
		name   string
		adjust func(*memberlist.Config)
	}{
		{"plain", func(config *memberlist.Config) { config.EnableCompression = false }},
		{"compressed", func(*memberlist.Config) {}},
		{"encrypted", func(config *memberlist.Config) { config.SecretKey = vectorKey }},
		{"padded", func(config *memberlist.Config) { config.SecretKey, config.ProtocolVersion = vectorKey, 1 }},
		{"labelled", func(config *memberlist.Config) { config.Label = "blue"; config.EnableCompression = false }},
		{"labelled-encrypted", func(config *memberlist.Config) { config.Label, config.SecretKey = "blue", vectorKey }},
	}
	recorder := &recorder{seen: map[string]int{}}
	for index, variant := range variants {
		// Each cluster has a network of its own, for the last words of one to reach no other.
		network := fmt.Sprintf("127.0.%d", index)
		if err := live(recorder, variant.name, network, variant.adjust); err != nil {
			return fmt.Errorf("%s: %w", variant.name, err)
		}
	}
	return nil
}

// live runs a cluster of four through joining, a user message, a crash and a leave.
func live(recorder *recorder, variant, network string, adjust func(*memberlist.Config)) error {
	const port = 17946
	var members []*memberlist.Memberlist
	var configs []*memberlist.Config
	for index, name := range []string{"node-a", "node-b", "node-c", "node-d"} {
		config := memberlist.DefaultLocalConfig()
		config.Name = name
		config.BindAddr = fmt.Sprintf("%s.%d", network, 11+index)
		config.BindPort, config.AdvertisePort = port, port
		config.ProbeInterval, config.ProbeTimeout = 200*time.Millisecond, 50*time.Millisecond
		config.LogOutput = io.Discard
		if index == 1 {
			config.Delegate = &teller{meta: []byte("of node-b")}
		}
		adjust(config)
		transport, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{config.BindAddr}, BindPort: port, Logger: log.New(io.Discard, "", 0),
		})
		if err != nil {
			return err
		}
		config.Transport = &recording{NetTransport: transport, recorder: recorder, variant: variant}
		list, err := memberlist.Create(config)
		if err != nil {
			return err
		}
		members, configs = append(members, list), append(configs, config)
	}
	for _, list := range members[1:] {
		if _, err := list.Join([]string{fmt.Sprintf("%s.11:%d", network, port)}); err != nil {
			return err
		}
	}
	time.Sleep(time.Second)
	other := members[0].Members()[0]
	if other.Name == "node-a" {
		other = members[0].Members()[1]
	}
	if err := members[0].SendBestEffort(other, []byte("a user message")); err != nil {
		return err
	}
	if err := members[0].SendReliable(other, []byte("another user message")); err != nil {
		return err
	}
	// A stream that cannot be read is answered with an error: here one compressed in an unknown way.
	transport := configs[0].Transport.(*recording)
	if connection, err := transport.DialAddressTimeout(memberlist.Address{Addr: fmt.Sprintf("%s.12:%d", network, port)}, time.Second); err == nil {
		payload := []byte("\x09\x82\xa4Algo\x01\xa3Buf\xa1\x00")
		if configs[0].Label != "" {
			payload = append([]byte{244, 4, 'b', 'l', 'u', 'e'}, payload...)
		}
		_, _ = connection.Write(payload)
		_ = connection.(*recordedConnection).Conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, connection)
		_ = connection.Close()
	}
	// A crash: suspected, asked about, dead.
	if err := members[3].Shutdown(); err != nil {
		return err
	}
	time.Sleep(3 * time.Second)
	if err := members[2].Leave(time.Second); err != nil {
		return err
	}
	for _, list := range members[:3] {
		if err := list.Shutdown(); err != nil {
			return err
		}
	}
	return nil
}
