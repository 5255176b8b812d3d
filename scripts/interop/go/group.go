package main

import (
	"fmt"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kversion"
)

var serial atomic.Int64

// fresh is a name that no earlier run has used.
func fresh(stem string) string {
	return fmt.Sprintf("go-%s-%d-%d-%d", stem, os.Getpid(), time.Now().UnixNano()%1e9, serial.Add(1))
}

// record is what the checks compare, whatever the client.
type record struct {
	partition int32
	offset    int64
	key       string
	value     string
	headers   string
	stampMs   int64
}

// member is one consumer in a group, as checkGroup drives it.
type member interface {
	// Poll waits a little for records.
	Poll() []record
	// Commit commits what Poll gave; false when the group has moved on and the commit was refused.
	Commit() bool
	// Assigned tells the partitions.
	Assigned() []int32
	// Close leaves the group.
	Close()
}

// seen collects what a group has handled and knows which of it was committed.
type seen struct {
	mu        sync.Mutex
	values    map[string]string
	committed map[string]bool
	wrong     string
}

func place(r record) string { return fmt.Sprintf("%d/%d", r.partition, r.offset) }

func (s *seen) received(records []record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range records {
		if s.committed[place(r)] {
			s.wrong = fmt.Sprintf("%s was committed and came again", place(r))
		}
		if before, ok := s.values[place(r)]; ok && before != r.value {
			s.wrong = fmt.Sprintf("%s changed its value from %s to %s", place(r), before, r.value)
		}
		s.values[place(r)] = r.value
	}
}

func (s *seen) done(records []record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range records {
		s.committed[place(r)] = true
	}
}

func (s *seen) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.values)
}

// worker runs a member in a goroutine.
type worker struct {
	m       member
	leaving atomic.Bool
	ended   chan struct{}
	wrong   any
}

func startWorker(m member, s *seen) *worker {
	w := &worker{m: m, ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		defer func() { w.wrong = recover() }()
		for !w.leaving.Load() {
			records := m.Poll()
			s.received(records)
			if len(records) > 0 && m.Commit() {
				s.done(records)
			}
		}
		m.Close()
	}()
	return w
}

func (w *worker) leave(t *T) {
	w.leaving.Store(true)
	select {
	case <-w.ended:
	case <-time.After(30 * time.Second):
		t.Failf("a member could not leave its group within 30 s")
	}
	if w.wrong != nil {
		t.Failf("a member: %v", w.wrong)
	}
}

// checkGroup lets two members share a topic of four partitions; one leaves, and the partitions move. Nothing is lost
// and nothing that was committed comes again. produce returns when all is acknowledged; value i goes to partition i%4.
func checkGroup(t *T, open func() member, produce func(values []string)) {
	const partitions = 4
	s := &seen{values: map[string]string{}, committed: map[string]bool{}}
	var sent []string
	for i := range 500 {
		sent = append(sent, fmt.Sprintf("g%06d", i))
	}
	produce(sent[:200])
	wait := func(shares []int, count int, workers ...*worker) {
		var sizes []int
		t.Eventually(60*time.Second, fmt.Sprintf("%d members with %v of 4 partitions and %d records", len(workers), shares, count), func() bool {
			sizes = nil
			whole := map[int32]bool{}
			for _, w := range workers {
				select {
				case <-w.ended:
					t.Failf("a member ended by itself: %v", w.wrong)
				default:
				}
				assigned := w.m.Assigned()
				sizes = append(sizes, len(assigned))
				for _, p := range assigned {
					whole[p] = true
				}
			}
			sort.Ints(sizes)
			return fmt.Sprint(sizes) == fmt.Sprint(shares) && len(whole) == partitions && s.count() >= count
		})
	}
	first := startWorker(open(), s)
	wait([]int{4}, 200, first)
	second := startWorker(open(), s)
	wait([]int{2, 2}, 200, first, second)
	produce(sent[200:400])
	wait([]int{2, 2}, 400, first, second)
	first.leave(t)
	wait([]int{4}, 400, second)
	produce(sent[400:])
	wait([]int{4}, 500, second)
	second.leave(t)
	if s.wrong != "" {
		t.Failf("%s", s.wrong)
	}
	var values []string
	for _, value := range s.values {
		values = append(values, value)
	}
	sort.Strings(values)
	t.Equal(values, sent, "the values that the group has handled")
}

// versionsWith is the newest version of everything, with some keys held back.
func versionsWith(held map[int16]int16) *kversion.Versions {
	versions := kversion.Stable()
	for key, version := range held {
		versions.SetMaxKeyVersion(key, version)
	}
	return versions
}
