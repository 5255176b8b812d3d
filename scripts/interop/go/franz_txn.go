package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var txnAPIs = []string{"AddPartitionsToTxn", "AddOffsetsToTxn", "EndTxn", "TxnOffsetCommit"}

func init() {
	register("franz",
		check{name: "txn", needs: txnAPIs, run: franzTxn},
		check{name: "txn-fencing", needs: txnAPIs, run: franzTxnFencing},
		check{name: "txn-timeout", needs: txnAPIs, run: franzTxnTimeout},
		check{name: "txn-describe", needs: append([]string{"DescribeTransactions", "ListTransactions", "DescribeProducers"}, txnAPIs...), run: franzTxnDescribe},
		check{name: "txn-etl", needs: txnAPIs, run: func(t *T) { franzEtl(t) }},
		check{name: "txn-etl-848", needs: append([]string{"ConsumerGroupHeartbeat"}, txnAPIs...), run: func(t *T) { franzEtl(t, kgo.ServerSideBalancer()) }},
	)
}

// visible is what a reader sees of a topic until a moment passes without news.
func visible(t *T, topic string, level kgo.IsolationLevel, atLeast int) []string {
	cl := franz(t, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(level))
	defer cl.Close()
	values := []string{}
	for quiet := 0; quiet < 3 || len(values) < atLeast; {
		if t.ctx.Err() != nil {
			t.Failf("only %d of %d records of %s can be seen", len(values), atLeast, topic)
		}
		ctx, cancel := context.WithTimeout(t.ctx, 200*time.Millisecond)
		fetches := cl.PollFetches(ctx)
		cancel()
		quiet++
		fetches.EachRecord(func(r *kgo.Record) {
			quiet = 0
			values = append(values, string(r.Value))
		})
	}
	sort.Strings(values)
	return values
}

func franzTxn(t *T) {
	topic := newTopic(t, "txn", 3)
	cl := franz(t, kgo.TransactionalID(fresh("txn-id")), kgo.TransactionTimeout(60*time.Second))
	transact := func(end kgo.TransactionEndTry, values ...string) {
		t.NoError(cl.BeginTransaction(), "beginning a transaction")
		for _, value := range values {
			franzSend(t, cl, &kgo.Record{Topic: topic, Value: []byte(value)})
		}
		t.NoError(cl.Flush(t.ctx), "flush")
		t.NoError(cl.EndTransaction(t.ctx, end), "ending a transaction")
	}
	transact(kgo.TryCommit, "a1", "a2", "a3")
	transact(kgo.TryAbort, "b1", "b2")
	transact(kgo.TryCommit, "c1")
	transact(kgo.TryCommit) // an empty one
	transact(kgo.TryAbort)
	t.Equal(visible(t, topic, kgo.ReadCommitted(), 4), "[a1 a2 a3 c1]", "read committed")
	t.Equal(visible(t, topic, kgo.ReadUncommitted(), 6), "[a1 a2 a3 b1 b2 c1]", "read uncommitted")
	// An open transaction holds read_committed readers back, and only those.
	t.NoError(cl.BeginTransaction(), "beginning a transaction")
	franzSend(t, cl, &kgo.Record{Topic: topic, Value: []byte("d1")})
	send(t, topic, 3, []string{"plain-0", "plain-1", "plain-2"})
	t.Equal(len(visible(t, topic, kgo.ReadUncommitted(), 10)), 10, "records before the open transaction's end, uncommitted")
	open := visible(t, topic, kgo.ReadCommitted(), 6)
	t.Equal(slices.Contains(open, "d1"), false, "an open transaction's record is visible")
	t.Equal(len(open), 6, "records that are not behind the open transaction")
	admin := franzAdmin(t)
	ends, err := admin.ListEndOffsets(t.ctx, topic)
	t.NoError(err, "end offsets")
	stable, err := admin.ListCommittedOffsets(t.ctx, topic)
	t.NoError(err, "last stable offsets")
	behind := int64(0)
	ends.Each(func(end kadm.ListedOffset) {
		s, _ := stable.Lookup(end.Topic, end.Partition)
		behind += end.Offset - s.Offset
	})
	t.Equal(behind, 2, "records behind the last stable offset")
	t.NoError(cl.EndTransaction(t.ctx, kgo.TryCommit), "committing")
	t.Equal(len(visible(t, topic, kgo.ReadCommitted(), 8)), 8, "records when all is committed")
}

func franzTxnFencing(t *T) {
	topic, id := newTopic(t, "fence", 1), fresh("fence-id")
	first := franz(t, kgo.TransactionalID(id))
	t.NoError(first.BeginTransaction(), "beginning a transaction")
	franzSend(t, first, &kgo.Record{Topic: topic, Value: []byte("of the first")})
	second := franz(t, kgo.TransactionalID(id))
	t.NoError(second.BeginTransaction(), "beginning a transaction")
	franzSend(t, second, &kgo.Record{Topic: topic, Value: []byte("of the second")})
	err := first.ProduceSync(t.ctx, &kgo.Record{Topic: topic, Value: []byte("of the zombie")}).FirstErr()
	if err == nil {
		err = first.EndTransaction(t.ctx, kgo.TryCommit)
	}
	t.Equal(errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kerr.ProducerFenced), true, "whether the first is fenced (%v)", err)
	t.NoError(second.EndTransaction(t.ctx, kgo.TryCommit), "committing the second")
	t.Equal(visible(t, topic, kgo.ReadCommitted(), 1), "[of the second]", "read committed")
}

func franzTxnTimeout(t *T) {
	topic := newTopic(t, "timeout", 1)
	cl := franz(t, kgo.TransactionalID(fresh("timeout-id")), kgo.TransactionTimeout(2*time.Second))
	t.NoError(cl.BeginTransaction(), "beginning a transaction")
	franzSend(t, cl, &kgo.Record{Topic: topic, Value: []byte("too late")})
	send(t, topic, 1, []string{"behind it"})
	t.Equal(visible(t, topic, kgo.ReadCommitted(), 1), "[behind it]", "read committed, when the transaction has timed out")
	err := cl.EndTransaction(t.ctx, kgo.TryCommit)
	t.Equal(err != nil, true, "whether committing a transaction that timed out is refused")
}

func franzTxnDescribe(t *T) {
	topic, id := newTopic(t, "describe", 2), fresh("describe-id")
	admin := franzAdmin(t)
	cl := franz(t, kgo.TransactionalID(id), kgo.TransactionTimeout(45*time.Second))
	state := func() string {
		told, err := admin.DescribeTransactions(t.ctx, id)
		t.NoError(err, "describing transactions")
		d := told[id]
		t.NoError(d.Err, "describing the transaction")
		return fmt.Sprintf("%s, %d ms, %d partitions", d.State, d.TimeoutMillis, len(d.Topics[topic]))
	}
	t.NoError(cl.BeginTransaction(), "beginning")
	franzSend(t, cl, &kgo.Record{Topic: topic, Value: []byte("one")})
	t.Equal(state(), "Ongoing, 45000 ms, 1 partitions", "the open transaction")
	listed, err := admin.ListTransactions(t.ctx, nil, []string{"Ongoing"})
	t.NoError(err, "listing transactions")
	t.Equal(listed[id].State, "Ongoing", "the listed transaction")
	var set kadm.TopicsSet
	set.Add(topic, 0, 1)
	producers, err := admin.DescribeProducers(t.ctx, set)
	t.NoError(err, "describing producers")
	open := 0
	producers.EachProducer(func(p kadm.DescribedProducer) {
		if p.CurrentTxnStartOffset >= 0 {
			open++
		}
	})
	t.Equal(open, 1, "producers with an open transaction")
	t.NoError(cl.EndTransaction(t.ctx, kgo.TryCommit), "committing")
	t.Eventually(20*time.Second, "the transaction is complete", func() bool { return strings.HasPrefix(state(), "CompleteCommit") })
	told, err := admin.DescribeTransactions(t.ctx, "no-such-"+id)
	t.NoError(err, "describing what does not exist")
	t.want(told["no-such-"+id].Err, kerr.TransactionalIDNotFound, "a transactional id that does not exist")
	found := admin.FindTxnCoordinators(t.ctx, id)
	t.NoError(found.Error(), "finding the transaction's coordinator")
}

// franzEtl moves every record of a topic to another one exactly once, with two sessions of which one goes and comes.
func franzEtl(t *T, opts ...kgo.Opt) {
	from, to, group := newTopic(t, "etl-from", 4), newTopic(t, "etl-to", 3), fresh("etl")
	const count = 3000
	var values []string
	for i := range count {
		values = append(values, fmt.Sprintf("v%06d", i))
	}
	send(t, from, 4, values)
	ctx, cancel := context.WithTimeout(t.ctx, 100*time.Second)
	defer cancel()
	var mu sync.Mutex
	moved, aborts := 0, 0
	// session moves records until all are moved, or until it has moved its share.
	session := func(name string, share int) error {
		s, err := kgo.NewGroupTransactSession(append([]kgo.Opt{kgo.SeedBrokers(t.addr), kgo.TransactionalID(fresh("etl-" + name)),
			kgo.ConsumerGroup(group), kgo.ConsumeTopics(from), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(10 * time.Second), kgo.HeartbeatInterval(300 * time.Millisecond)}, opts...)...)
		if err != nil {
			return err
		}
		defer s.Close()
		own := 0
		for own < share {
			mu.Lock()
			done := moved >= count
			mu.Unlock()
			if done {
				return nil
			}
			poll, stop := context.WithTimeout(ctx, 500*time.Millisecond)
			fetches := s.PollRecords(poll, 200)
			stop()
			if ctx.Err() != nil {
				return fmt.Errorf("session %s: the records were not moved in time", name)
			}
			records := fetches.Records()
			if len(records) == 0 {
				continue
			}
			if err := s.Begin(); err != nil {
				return fmt.Errorf("session %s: begin: %w", name, err)
			}
			e := kgo.AbortingFirstErrPromise(s.Client())
			for _, r := range records {
				s.Produce(ctx, &kgo.Record{Topic: to, Key: r.Value, Value: r.Value}, e.Promise())
			}
			failed := e.Err() != nil
			committed, err := s.End(ctx, kgo.TransactionEndTry(!failed))
			if err != nil {
				return fmt.Errorf("session %s: end: %w", name, err)
			}
			mu.Lock()
			if committed {
				moved += len(records)
				own += len(records)
			} else {
				aborts++
			}
			mu.Unlock()
		}
		return nil
	}
	results := make(chan error, 3)
	go func() {
		// Goes after a few hundred records, and comes back under another transactional id.
		if err := session("a", 400); err != nil {
			results <- err
			return
		}
		results <- session("b", count)
	}()
	go func() { results <- session("c", count) }()
	for range 2 {
		t.NoError(<-results, "a session (%d moved, %d aborts)", moved, aborts)
	}
	t.Equal(moved, count, "records that were moved")
	seen := visible(t, to, kgo.ReadCommitted(), count)
	t.Equal(len(seen), count, "records that came through")
	for i, value := range seen {
		t.Equal(value, values[i], "record %d", i)
	}
}
