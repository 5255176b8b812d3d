// Runs Go clients against a server: franz-go, sarama and kafka-go, each with what it offers.
//
//	interop --bootstrap HOST:PORT [CHECK...]
//
// A check is CLIENT/NAME; a CLIENT alone stands for all of its checks. Each runs under a deadline. Exit status 1 when
// one fails; the others run all the same.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The longest that one check may take.
const checkMax = 150 * time.Second

type check struct {
	name string
	// What the server must offer, as names of APIs; without it the check is skipped and that is said.
	needs []string
	run   func(*T)
}

var checks []check

// register adds the checks of one client.
func register(client string, list ...check) {
	for _, c := range list {
		c.name = client + "/" + c.name
		checks = append(checks, c)
	}
}

// T is one run of one check.
type T struct {
	name string
	// Where the server is.
	addr string
	// Ends with the check.
	ctx context.Context
}

// failure is what a check panics with: the sentence for the person who reads.
type failure string

// Failf ends the check.
func (t *T) Failf(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }

// NoError ends the check on an error.
func (t *T) NoError(err error, what string, args ...any) {
	if err != nil {
		t.Failf("%s: %v", fmt.Sprintf(what, args...), err)
	}
}

// Equal ends the check when the two print differently.
func (t *T) Equal(seen, expected any, what string, args ...any) {
	if s, e := fmt.Sprintf("%v", seen), fmt.Sprintf("%v", expected); s != e {
		t.Failf("%s: expected %s, got %s", fmt.Sprintf(what, args...), e, s)
	}
}

// Eventually asks until the answer is true.
func (t *T) Eventually(within time.Duration, what string, ask func() bool) {
	until := time.Now().Add(within)
	for !ask() {
		if time.Now().After(until) {
			t.Failf("not within %s: %s", within, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Becomes asks until the answer is what is expected: a real Kafka answers a change before its broker has learnt of it.
func (t *T) Becomes(ask func() string, expected, what string) {
	seen := ask()
	for until := time.Now().Add(10 * time.Second); seen != expected && time.Now().Before(until); seen = ask() {
		time.Sleep(20 * time.Millisecond)
	}
	t.Equal(seen, expected, "%s", what)
}

// run carries a check out; nil when all is well. What a client's own goroutine panics with ends the program.
func run(c check, addr string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), checkMax)
	defer cancel()
	watchdog := time.AfterFunc(checkMax+10*time.Second, func() {
		fmt.Fprintf(os.Stderr, "FAILED %s: hangs beyond its deadline\n", c.name)
		pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
		os.Exit(1)
	})
	defer watchdog.Stop()
	defer func() {
		switch what := recover().(type) {
		case nil:
		case failure:
			err = fmt.Errorf("%s", string(what))
		default:
			err = fmt.Errorf("%v\n%s", what, debug.Stack())
		}
	}()
	c.run(&T{name: c.name, addr: addr, ctx: ctx})
	return nil
}

// offered tells which APIs the server advertises.
func offered(addr string) (func(api string) bool, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	all, err := kadm.NewClient(cl).ApiVersions(ctx)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, broker := range all {
		if broker.Err != nil {
			return nil, broker.Err
		}
		broker.EachKeySorted(func(key, _, _ int16) { names[kadmName(key)] = true })
	}
	return func(api string) bool { return names[api] }, nil
}

// awake asks for coordinators until they are there: Kafka makes what they keep their state in for the first who asks.
func awake(addr string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	admin := kadm.NewClient(cl)
	for {
		_, err = admin.FetchOffsets(ctx, fresh("awake"))
		if err == nil || errors.Is(err, kerr.GroupIDNotFound) {
			err = admin.FindTxnCoordinators(ctx, fresh("awake")).Error()
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func chosen(wanted []string, name string) bool {
	for _, w := range wanted {
		if name == w || strings.HasPrefix(name, w+"/") {
			return true
		}
	}
	return len(wanted) == 0
}

func main() {
	if len(os.Args) > 3 && os.Args[1] == "--child" {
		childMain(os.Args[2:])
		return
	}
	bootstrap := flag.String("bootstrap", "", "HOST:PORT")
	list := flag.Bool("list", false, "name the checks")
	flag.Parse()
	if *list {
		for _, c := range checks {
			fmt.Println(c.name)
		}
		return
	}
	has, err := offered(*bootstrap)
	if err != nil {
		fmt.Fprintf(os.Stderr, "FAILED no answer from %s: %v\n", *bootstrap, err)
		os.Exit(1)
	}
	if err := awake(*bootstrap); err != nil {
		fmt.Fprintf(os.Stderr, "FAILED no coordinators at %s: %v\n", *bootstrap, err)
		os.Exit(1)
	}
	passed, failed, skipped := 0, 0, 0
	for _, c := range checks {
		if !chosen(flag.Args(), c.name) {
			continue
		}
		missing := ""
		for _, api := range c.needs {
			if !has(api) {
				missing = api
			}
		}
		if missing != "" {
			skipped++
			fmt.Printf("  SKIPPED %s: the server does not offer %s\n", c.name, missing)
			continue
		}
		begin := time.Now()
		if err := run(c, *bootstrap); err != nil {
			failed++
			fmt.Printf("  FAILED %s: %v\n", c.name, err)
			continue
		}
		passed++
		fmt.Printf("  ok %s (%.1f s)\n", c.name, time.Since(begin).Seconds())
	}
	fmt.Printf("  %d passed, %d failed, %d skipped\n", passed, failed, skipped)
	if failed > 0 || passed+skipped == 0 {
		os.Exit(1)
	}
	if skipped > 0 && os.Getenv("CI") == "true" {
		os.Exit(1)
	}
}
