package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Zombies: processes of their own that are stopped, killed and continued. Each runs this program as a child, which does
// what the lines on its standard input say and answers each with a line.
func init() {
	register("bad",
		check{name: "paused-producer", needs: txnAPIs, run: zombieProducer},
		check{name: "paused-in-commit", needs: txnAPIs, run: zombieInCommit},
		check{name: "paused-producer-alone", needs: txnAPIs, run: zombieAlone},
		check{name: "paused-copier", needs: txnAPIs, run: zombieCopier},
		check{name: "killed-producer", needs: txnAPIs, run: killedProducer},
		check{name: "members-in-rebalance", run: func(t *T) { lostMembers(t, "cooperative") }},
		check{name: "members-in-rebalance-eager", run: func(t *T) { lostMembers(t, "range") }},
		check{name: "members-in-rebalance-848", needs: []string{"ConsumerGroupHeartbeat"}, run: func(t *T) { lostMembers(t, "848") }},
	)
}

// --- children ---------------------------------------------------------------------------------------------------

// The longest that a child may take to answer.
const answerMax = 70 * time.Second

type child struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string
}

// spawn starts a child of a kind; it is killed with the check.
func spawn(t *T, kind string, args ...string) *child {
	self, err := os.Executable()
	t.NoError(err, "this program's own path")
	c := &child{name: kind, cmd: exec.Command(self, append([]string{"--child", kind, t.addr}, args...)...), lines: make(chan string, 10000)}
	c.cmd.Stderr = os.Stderr
	c.stdin, err = c.cmd.StdinPipe()
	t.NoError(err, "a pipe")
	out, err := c.cmd.StdoutPipe()
	t.NoError(err, "a pipe")
	t.NoError(c.cmd.Start(), "starting a child")
	context.AfterFunc(t.ctx, func() { c.cmd.Process.Kill() })
	go func() {
		defer close(c.lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			c.lines <- in.Text()
		}
	}()
	return c
}

// tell gives the child a line to do.
func (c *child) tell(t *T, line string) {
	_, err := io.WriteString(c.stdin, line+"\n")
	t.NoError(err, "telling %s to %s", c.name, line)
}

// answer is the child's next line.
func (c *child) answer(t *T) string {
	select {
	case line, ok := <-c.lines:
		if !ok {
			t.Failf("%s ended", c.name)
		}
		return line
	case <-time.After(answerMax):
		t.Failf("%s does not answer within %s", c.name, answerMax)
	}
	return ""
}

func (c *child) ask(t *T, line string) string {
	c.tell(t, line)
	return c.answer(t)
}

// expect asks and wants "ok".
func (c *child) expect(t *T, line string) {
	t.Equal(c.ask(t, line), "ok", "%s, told to %s", c.name, line)
}

// pause stops the process and waits until the kernel says so.
func (c *child) pause(t *T) {
	t.NoError(c.cmd.Process.Signal(syscall.SIGSTOP), "SIGSTOP")
	t.Eventually(5*time.Second, "the process is stopped", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
		after := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
		return err == nil && strings.HasPrefix(after, " T")
	})
}

func (c *child) resume(t *T) { t.NoError(c.cmd.Process.Signal(syscall.SIGCONT), "SIGCONT") }

func (c *child) kill(t *T) {
	t.NoError(c.cmd.Process.Kill(), "SIGKILL")
	c.cmd.Wait()
}

// childMain is the program as a child: KIND ADDRESS ARGUMENT...
func childMain(args []string) {
	kind, addr, rest := args[0], args[1], args[2:]
	switch kind {
	case "producer":
		childProducer(addr, rest[0], rest[1], rest[2])
	case "copier":
		childCopier(addr, rest[0], rest[1], rest[2], rest[3])
	case "member":
		childMember(addr, rest[0], rest[1], rest[2])
	default:
		os.Exit(2)
	}
}

func mustClient(addr string, opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr)}, opts...)...)
	if err != nil {
		fmt.Println("no client:", err)
		os.Exit(1)
	}
	return cl
}

// outcome is an error as a word: Kafka's name, or what stands for it.
func outcome(err error) string {
	var ke *kerr.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &ke):
		return ke.Message
	default:
		return "error: " + strings.ReplaceAll(err.Error(), "\n", " ")
	}
}

func commands(do func(word, argument string) error) {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		word, argument, _ := strings.Cut(in.Text(), " ")
		fmt.Println(outcome(do(word, argument)))
	}
}

// childProducer begins, sends, commits and aborts transactions.
func childProducer(addr, id, topic, timeoutMs string) {
	ms, _ := strconv.Atoi(timeoutMs)
	cl := mustClient(addr, kgo.TransactionalID(id), kgo.TransactionTimeout(time.Duration(ms)*time.Millisecond), kgo.DefaultProduceTopic(topic))
	ctx := context.Background()
	commands(func(word, argument string) error {
		switch word {
		case "begin":
			return cl.BeginTransaction()
		case "send":
			return cl.ProduceSync(ctx, kgo.StringRecord(argument)).FirstErr()
		case "commit":
			return cl.EndTransaction(ctx, kgo.TryCommit)
		}
		return fmt.Errorf("no command %s", word)
	})
}

func openCopier(addr, id, group, from string) (*kgo.GroupTransactSession, error) {
	return kgo.NewGroupTransactSession(kgo.SeedBrokers(addr), kgo.TransactionalID(id), kgo.TransactionTimeout(60*time.Second),
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(from), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(300*time.Millisecond))
}

// childCopier copies what it is given, in a transaction with the group's offsets: "copy" begins, "end" commits.
func childCopier(addr, id, group, from, to string) {
	s, err := openCopier(addr, id, group, from)
	if err != nil {
		fmt.Println("no client:", err)
		os.Exit(1)
	}
	ctx := context.Background()
	commands(func(word, _ string) error {
		if word == "copy" {
			records := s.PollFetches(ctx).Records()
			if err := s.Begin(); err != nil {
				return err
			}
			for _, r := range records {
				if err := s.ProduceSync(ctx, &kgo.Record{Topic: to, Value: append([]byte(id+" "), r.Value...)}).FirstErr(); err != nil {
					return err
				}
			}
			return nil
		}
		committed, err := s.End(ctx, kgo.TryCommit)
		if err == nil && !committed {
			err = errors.New("aborted")
		}
		return err
	})
}

// childMember reads as a member of a group, commits, and tells by lines: "has 0,2" when its partitions change, and
// "P O VALUE" for each record, before its offset is committed.
func childMember(addr, topic, group, kind string) {
	opts := map[string][]kgo.Opt{
		"cooperative": {kgo.Balancers(kgo.CooperativeStickyBalancer())},
		"range":       {kgo.Balancers(kgo.RangeBalancer())},
		"848":         {kgo.ServerSideBalancer()},
	}[kind]
	var mu sync.Mutex
	parts := map[int32]bool{}
	change := func(to bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, told map[string][]int32) {
			mu.Lock()
			defer mu.Unlock()
			for _, p := range told[topic] {
				parts[p] = to
			}
			list := []string{}
			for p, has := range parts {
				if has {
					list = append(list, fmt.Sprint(p))
				}
			}
			sort.Strings(list)
			fmt.Println("has", strings.Join(list, ","))
		}
	}
	cl := mustClient(addr, append(opts, kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second), kgo.RebalanceTimeout(15*time.Second), kgo.HeartbeatInterval(300*time.Millisecond),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false)))...)
	for {
		cl.AllowRebalance()
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		records := cl.PollFetches(ctx).Records()
		cancel()
		if len(records) == 0 {
			continue
		}
		for _, r := range records {
			fmt.Println(r.Partition, r.Offset, string(r.Value))
		}
		ctx, cancel = context.WithTimeout(context.Background(), 20*time.Second)
		err := cl.CommitRecords(ctx, records...)
		cancel()
		if err != nil {
			fmt.Println("refused", outcome(err))
		}
	}
}

// --- producers --------------------------------------------------------------------------------------------------

// noLongerOngoing waits until the transaction of an id is over.
func noLongerOngoing(t *T, id string) {
	admin := franzAdmin(t)
	t.Eventually(40*time.Second, "the transaction has timed out", func() bool {
		told, err := admin.DescribeTransactions(t.ctx, id)
		return err == nil && told[id].Err == nil && told[id].State != "Ongoing" && !strings.HasPrefix(told[id].State, "Prepare")
	})
}

// zombieProducer is stopped in its transaction; when the time of that is over a successor takes its id over.
func zombieProducer(t *T) {
	topic, id := newTopic(t, "zombie", 1), fresh("zombie")
	zombie := spawn(t, "producer", id, topic, "3000")
	zombie.expect(t, "begin")
	zombie.expect(t, "send of the zombie")
	zombie.pause(t)
	noLongerOngoing(t, id)
	successor := franz(t, kgo.TransactionalID(id), kgo.DefaultProduceTopic(topic))
	t.NoError(successor.BeginTransaction(), "beginning")
	franzSend(t, successor, kgo.StringRecord("of the successor"))
	zombie.resume(t)
	t.Fact("a zombie that sends on", zombie.ask(t, "send more of the zombie"))
	t.Fact("a zombie that commits", zombie.ask(t, "commit"))
	t.NoError(successor.EndTransaction(t.ctx, kgo.TryCommit), "the successor's commit")
	t.NoError(successor.BeginTransaction(), "beginning")
	franzSend(t, successor, kgo.StringRecord("of the successor, again"))
	t.NoError(successor.EndTransaction(t.ctx, kgo.TryCommit), "the successor's second commit")
	t.Equal(visible(t, topic, kgo.ReadCommitted(), 2), "[of the successor of the successor, again]", "read committed")
	t.Equal(len(visible(t, topic, kgo.ReadUncommitted(), 3)), 3, "records at all: what the zombie sent after it was continued is refused")
}

// zombieInCommit is told to commit while it is stopped, so that the commit is the first that it does when it is continued.
func zombieInCommit(t *T) {
	topic, id := newTopic(t, "in-commit", 1), fresh("in-commit")
	zombie := spawn(t, "producer", id, topic, "60000")
	zombie.expect(t, "begin")
	zombie.expect(t, "send of the zombie")
	zombie.pause(t)
	zombie.tell(t, "commit")
	successor := franz(t, kgo.TransactionalID(id), kgo.DefaultProduceTopic(topic))
	t.NoError(successor.BeginTransaction(), "beginning")
	franzSend(t, successor, kgo.StringRecord("of the successor"))
	t.NoError(successor.EndTransaction(t.ctx, kgo.TryCommit), "the successor's commit")
	zombie.resume(t)
	t.Fact("a zombie's commit behind its successor", zombie.answer(t))
	t.Equal(visible(t, topic, kgo.ReadCommitted(), 1), "[of the successor]", "read committed")
}

// zombieAlone has no successor: its time is over all the same.
func zombieAlone(t *T) {
	topic, id := newTopic(t, "alone", 1), fresh("alone")
	zombie := spawn(t, "producer", id, topic, "3000")
	zombie.expect(t, "begin")
	zombie.expect(t, "send of the zombie")
	zombie.pause(t)
	noLongerOngoing(t, id)
	send(t, topic, 1, []string{"of another"})
	t.Equal(visible(t, topic, kgo.ReadCommitted(), 1), "[of another]", "read committed while the zombie sleeps")
	zombie.resume(t)
	t.Fact("a commit after its time", zombie.ask(t, "commit"))
	t.Equal(visible(t, topic, kgo.ReadCommitted(), 1), "[of another]", "read committed")
}

// killedProducer is killed in its transaction: a reader of committed records is held back until its successor begins.
func killedProducer(t *T) {
	topic, id := newTopic(t, "killed", 1), fresh("killed")
	first := spawn(t, "producer", id, topic, "60000")
	first.expect(t, "begin")
	first.expect(t, "send of the killed")
	first.kill(t)
	send(t, topic, 1, []string{"behind it"})
	t.Equal(visible(t, topic, kgo.ReadCommitted(), 0), "[]", "read committed, behind an open transaction")
	second := spawn(t, "producer", id, topic, "60000")
	second.expect(t, "begin")
	second.expect(t, "send of the second")
	second.expect(t, "commit")
	t.Equal(visible(t, topic, kgo.ReadCommitted(), 2), "[behind it of the second]", "read committed")
}

// zombieCopier reads, writes and commits offsets in a transaction; stopped before its commit, it loses its partition to
// another member with another transactional id, which copies the same records. Only the group can tell that it is a zombie.
func zombieCopier(t *T) {
	from, to, group := newTopic(t, "copy-from", 1), newTopic(t, "copy-to", 1), fresh("copiers")
	send(t, from, 1, []string{"a", "b", "c"})
	zombie := spawn(t, "copier", "zombie-"+fresh("id"), group, from, to)
	zombie.expect(t, "copy")
	zombie.pause(t)
	zombie.tell(t, "end")
	other := spawn(t, "copier", "other-"+fresh("id"), group, from, to)
	// The offsets of the zombie's transaction may be pending: a stable read of them waits, but nothing was committed yet.
	other.expect(t, "copy")
	other.expect(t, "end")
	zombie.resume(t)
	t.Equal(zombie.answer(t) != "ok", true, "whether the zombie's end is no commit")
	copies := visible(t, to, kgo.ReadCommitted(), 3)
	t.Equal(len(copies), 3, "committed copies: %v", copies)
	for _, value := range copies {
		t.Equal(strings.HasPrefix(value, "other-"), true, "whether %q is of the other", value)
	}
	offsets, err := franzAdmin(t).FetchOffsets(t.ctx, group)
	t.NoError(err, "committed offsets")
	end, _ := offsets.Lookup(from, 0)
	t.Fact("the group's offset", end.At)
}

// --- members ----------------------------------------------------------------------------------------------------

// lostMembers stops one member of three so that the rebalance that a fourth begins can't end, and kills another in it.
// The rest get all partitions when the sessions are over; the stopped one comes back. Everything is read and committed.
func lostMembers(t *T, kind string) {
	const partitions = 6
	topic, group := newTopic(t, "lost", partitions), fresh("lost")
	seen := map[string]bool{}
	has := map[*child]int{}
	refused := map[string]int{}
	// listen takes what the children tell.
	listen := func(children ...*child) {
		for _, c := range children {
			for more := true; more; {
				select {
				case line, ok := <-c.lines:
					if !ok {
						more = false
						break
					}
					first, rest, _ := strings.Cut(line, " ")
					switch first {
					case "has":
						has[c] = 0
						if rest != "" {
							has[c] = len(strings.Split(rest, ","))
						}
					case "refused":
						refused[rest]++
					default:
						seen[line] = true
					}
				default:
					more = false
				}
			}
		}
	}
	start := func() *child { return spawn(t, "member", topic, group, kind) }
	sent := 0
	write := func() {
		values := []string{}
		for range 60 {
			values = append(values, fmt.Sprint(sent))
			sent++
		}
		send(t, topic, partitions, values)
	}
	one, two, three := start(), start(), start()
	// share waits for who has how many.
	share := func(what string, each int, children ...*child) {
		t.Eventually(75*time.Second, what, func() bool {
			listen(one, two, three)
			listen(children...)
			for _, c := range children {
				if has[c] != each {
					return false
				}
			}
			return true
		})
	}
	write()
	share("three members share six partitions", 2, one, two, three)
	two.pause(t)
	four := start()
	write()
	// The rebalance has begun; in the classic protocol it waits for the stopped one.
	admin := franzAdmin(t)
	t.Eventually(30*time.Second, "the fourth is a member", func() bool {
		if kind == "848" {
			listen(four)
			told, err := admin.DescribeConsumerGroups(t.ctx, group)
			return err == nil && len(told[group].Members) == 4
		}
		told, err := admin.DescribeGroups(t.ctx, group)
		return err == nil && told[group].State != "Stable"
	})
	three.kill(t)
	share("the two that are left have three partitions each", 3, one, four)
	write()
	two.resume(t)
	share("the stopped one is a member again", 2, one, two, four)
	write()
	committed := func() int {
		total := 0
		if offsets, err := admin.FetchOffsets(t.ctx, group); err == nil {
			offsets.Each(func(o kadm.OffsetResponse) { total += int(o.At) })
		}
		return total
	}
	t.Eventually(30*time.Second, "everything is committed", func() bool { listen(one, two, three, four); return committed() == sent })
	t.Eventually(10*time.Second, "everything was read", func() bool { listen(one, two, three, four); return len(seen) == sent })
	for _, c := range []*child{one, two, four} {
		c.kill(t)
	}
	t.Fact("a "+kind+" group whose members are stopped and killed in its rebalance", fmt.Sprint("has read ", len(seen)))
}
