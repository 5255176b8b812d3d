package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Bad use: what goes wrong is told in "facts", which have to be the same on a real Kafka.
func init() {
	register("bad",
		check{name: "commits", run: badCommits},
		check{name: "group-calls", run: badGroupCalls},
		check{name: "transaction-calls", needs: txnAPIs, run: badTransactionCalls},
		check{name: "one-id-many-producers", needs: txnAPIs, run: badOneID},
		check{name: "out-of-range", run: badOutOfRange},
		check{name: "delete-under-load", run: badDeleteUnderLoad},
		check{name: "recreate", run: badRecreate},
		check{name: "more-partitions", run: badMorePartitions},
	)
}

// Fact prints what a server answered.
func (t *T) Fact(what string, told any) {
	if code, ok := told.(int16); ok {
		told = "NONE"
		if err := kerr.ErrorForCode(code); err != nil {
			told = err.(*kerr.Error).Message
		}
	}
	fmt.Printf("  = %s, %s: %v\n", t.name, what, told)
}

// ask sends a request and gives its answer.
func ask[R kmsg.Response](t *T, cl *kgo.Client, req kmsg.Request) R {
	resp, err := cl.Request(t.ctx, req)
	t.NoError(err, "%s", kmsg.NameForKey(req.Key()))
	return resp.(R)
}

func commitRequest(group, member string, generation int32, topic string, partition int32) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation = group, member, generation
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset, rp.LeaderEpoch = partition, 3, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

// v9 keeps requests to names of topics, which is what most clients speak.
func oldOffsets(t *T) *kgo.Client {
	return franz(t, kgo.MaxVersions(versionsWith(map[int16]int16{8: 9, 9: 9})), kgo.RequestRetries(0))
}

func badCommits(t *T) {
	topic, group := newTopic(t, "bad-commits", 1), fresh("bad-commits")
	cl := oldOffsets(t)
	commit := func(what, group, member string, generation int32, topic string, partition int32) {
		resp := ask[*kmsg.OffsetCommitResponse](t, cl, commitRequest(group, member, generation, topic, partition))
		t.Fact(what, resp.Topics[0].Partitions[0].ErrorCode)
	}
	commit("no group, no member", group, "", -1, topic, 0)
	commit("no group, a member", fresh("bad-none"), "some-member", -1, topic, 0)
	commit("no group, a generation", fresh("bad-none"), "some-member", 5, topic, 0)
	commit("a topic that does not exist", group, "", -1, "no-such-"+topic, 0)
	commit("a partition that does not exist", group, "", -1, topic, 7)
	commit("a negative partition", group, "", -1, topic, -1)
	commit("an empty group, a member", group, "some-member", -1, topic, 0)
	commit("an empty group, a generation", group, "some-member", 3, topic, 0)
	m := openFranz(t, topic, group)
	t.Eventually(30*time.Second, "the member has its partition", func() bool { m.Poll(); return len(m.Assigned()) == 1 })
	member, generation := m.cl.GroupMetadata()
	commit("a group with a member, nobody", group, "", -1, topic, 0)
	commit("a group with a member, another one", group, "another", generation, topic, 0)
	commit("a group with a member, an old generation", group, member, generation-1, topic, 0)
	commit("a group with a member, a later generation", group, member, generation+1, topic, 0)
	commit("a group with a member, the member", group, member, generation, topic, 0)
	m.Close()
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Group = fresh("bad-none")
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group = fetch.Group
	rt := kmsg.NewOffsetFetchRequestGroupTopic()
	rt.Topic, rt.Partitions = "no-such-"+topic, []int32{0}
	rg.Topics = append(rg.Topics, rt)
	fetch.Groups = append(fetch.Groups, rg)
	resp := ask[*kmsg.OffsetFetchResponse](t, cl, fetch)
	t.Fact("offsets of a group that does not exist", resp.Groups[0].ErrorCode)
	t.Fact("offset of a topic that does not exist", fmt.Sprint(resp.Groups[0].Topics[0].Partitions[0].Offset, " ", resp.Groups[0].Topics[0].Partitions[0].ErrorCode))
}

func badGroupCalls(t *T) {
	cl := franz(t, kgo.RequestRetries(0))
	group := fresh("bad-group")
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Group, beat.MemberID, beat.Generation = group, "nobody", 1
	t.Fact("heartbeat in a group that does not exist", ask[*kmsg.HeartbeatResponse](t, cl, beat).ErrorCode)
	sync := kmsg.NewPtrSyncGroupRequest()
	kind, protocol := "consumer", "range"
	sync.Group, sync.MemberID, sync.Generation, sync.ProtocolType, sync.Protocol = group, "nobody", 1, &kind, &protocol
	t.Fact("sync in a group that does not exist", ask[*kmsg.SyncGroupResponse](t, cl, sync).ErrorCode)
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group = group
	lm := kmsg.NewLeaveGroupRequestMember()
	lm.MemberID = "nobody"
	leave.Members = append(leave.Members, lm)
	left := ask[*kmsg.LeaveGroupResponse](t, cl, leave)
	codes := []int16{left.ErrorCode}
	for _, m := range left.Members {
		codes = append(codes, m.ErrorCode)
	}
	t.Fact("leaving a group that does not exist", fmt.Sprint(codes))
	join := func(what string, change func(*kmsg.JoinGroupRequest)) *kmsg.JoinGroupResponse {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.ProtocolType, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = group, "consumer", 10000, 10000
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = "range", []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		req.Protocols = append(req.Protocols, p)
		change(req)
		resp := ask[*kmsg.JoinGroupResponse](t, cl, req)
		t.Fact(what, resp.ErrorCode)
		return resp
	}
	join("joining with an unknown member id", func(r *kmsg.JoinGroupRequest) { r.MemberID = "nobody" })
	join("joining with a short session", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 1 })
	join("joining with a very long session", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 1 << 30 })
	join("joining without protocols", func(r *kmsg.JoinGroupRequest) { r.Protocols = nil })
	join("joining without a protocol type", func(r *kmsg.JoinGroupRequest) { r.ProtocolType = "" })
	join("joining without a group id", func(r *kmsg.JoinGroupRequest) { r.Group = "" })
	given := join("joining without a member id", func(*kmsg.JoinGroupRequest) {})
	t.Equal(given.MemberID != "", true, "whether a member id is given")
	in := join("joining with the given id", func(r *kmsg.JoinGroupRequest) { r.MemberID = given.MemberID })
	join("joining with other protocols", func(r *kmsg.JoinGroupRequest) { r.Protocols[0].Name = "other" })
	join("joining with another protocol type", func(r *kmsg.JoinGroupRequest) { r.ProtocolType = "connect" })
	sync.MemberID, sync.Generation = given.MemberID, in.Generation+1
	t.Fact("sync in a later generation", ask[*kmsg.SyncGroupResponse](t, cl, sync).ErrorCode)
	other := "other"
	sync.Generation, sync.Protocol = in.Generation, &other
	t.Fact("sync with another protocol", ask[*kmsg.SyncGroupResponse](t, cl, sync).ErrorCode)
	sync.Protocol = &protocol
	t.Fact("sync", ask[*kmsg.SyncGroupResponse](t, cl, sync).ErrorCode)
	beat.MemberID, beat.Generation = given.MemberID, in.Generation+1
	t.Fact("heartbeat in a later generation", ask[*kmsg.HeartbeatResponse](t, cl, beat).ErrorCode)
	beat.Generation = in.Generation
	t.Fact("heartbeat", ask[*kmsg.HeartbeatResponse](t, cl, beat).ErrorCode)
	lm.MemberID = given.MemberID
	leave.Members = []kmsg.LeaveGroupRequestMember{lm, lm}
	left = ask[*kmsg.LeaveGroupResponse](t, cl, leave)
	t.Fact("leaving twice", fmt.Sprint(left.Members[0].ErrorCode, left.Members[1].ErrorCode))
	found := kmsg.NewPtrFindCoordinatorRequest()
	found.CoordinatorType, found.CoordinatorKeys = 77, []string{"some"}
	if resp, err := cl.Request(t.ctx, found); err == nil {
		r := resp.(*kmsg.FindCoordinatorResponse)
		code := r.ErrorCode
		for _, c := range r.Coordinators {
			code = c.ErrorCode
		}
		t.Fact("a coordinator of an unknown kind", code)
	}
}

func badTransactionCalls(t *T) {
	topic, id, group := newTopic(t, "bad-txn", 1), fresh("bad-txn"), fresh("bad-txn-group")
	// Up to version 5, TxnOffsetCommit names topics.
	cl := franz(t, kgo.MaxVersions(versionsWith(map[int16]int16{28: 5})), kgo.RequestRetries(0))
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = id, 12345, 0, true
	t.Fact("ending what was never begun", ask[*kmsg.EndTxnResponse](t, cl, end).ErrorCode)
	start := func(what string, change func(*kmsg.InitProducerIDRequest)) *kmsg.InitProducerIDResponse {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID, req.TransactionTimeoutMillis = &id, 30000
		change(req)
		var resp *kmsg.InitProducerIDResponse
		t.Eventually(20*time.Second, what, func() bool {
			resp = ask[*kmsg.InitProducerIDResponse](t, cl, req)
			return resp.ErrorCode != kerr.ConcurrentTransactions.Code && resp.ErrorCode != kerr.CoordinatorLoadInProgress.Code && resp.ErrorCode != kerr.CoordinatorNotAvailable.Code && resp.ErrorCode != kerr.NotCoordinator.Code
		})
		t.Fact(what, resp.ErrorCode)
		return resp
	}
	none := ""
	start("an empty transactional id", func(r *kmsg.InitProducerIDRequest) { r.TransactionalID = &none })
	start("a timeout beyond the largest", func(r *kmsg.InitProducerIDRequest) { r.TransactionTimeoutMillis = 1 << 30 })
	start("a timeout of 0", func(r *kmsg.InitProducerIDRequest) { r.TransactionTimeoutMillis = 0 })
	p := start("a producer id", func(*kmsg.InitProducerIDRequest) {})
	start("the same with a wrong epoch", func(r *kmsg.InitProducerIDRequest) { r.ProducerID, r.ProducerEpoch = p.ProducerID, p.ProducerEpoch+5 })
	start("the same with another producer id", func(r *kmsg.InitProducerIDRequest) { r.ProducerID, r.ProducerEpoch = p.ProducerID+99, 0 })
	end.ProducerID, end.ProducerEpoch = p.ProducerID, p.ProducerEpoch+5
	t.Fact("ending with a later epoch", ask[*kmsg.EndTxnResponse](t, cl, end).ErrorCode)
	end.ProducerID, end.ProducerEpoch = p.ProducerID+99, p.ProducerEpoch
	t.Fact("ending with another producer id", ask[*kmsg.EndTxnResponse](t, cl, end).ErrorCode)
	offsets := kmsg.NewPtrTxnOffsetCommitRequest()
	offsets.TransactionalID, offsets.Group, offsets.ProducerID, offsets.ProducerEpoch = id, group, p.ProducerID, p.ProducerEpoch
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	rp.Offset, rp.LeaderEpoch = 3, -1
	rt.Partitions = append(rt.Partitions, rp)
	offsets.Topics = append(offsets.Topics, rt)
	offset := func(what, member string, generation int32, topic string) {
		offsets.MemberID, offsets.Generation, offsets.Topics[0].Topic = member, generation, topic
		t.Fact(what, ask[*kmsg.TxnOffsetCommitResponse](t, cl, offsets).Topics[0].Partitions[0].ErrorCode)
	}
	offset("offsets with a generation of a group that does not exist", "nobody", 4, topic)
	offset("offsets for a topic that does not exist", "", -1, "no-such-"+topic)
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.Version = 3
	add.TransactionalID, add.ProducerID, add.ProducerEpoch = id, p.ProducerID, p.ProducerEpoch
	for _, name := range []string{topic, "no-such-" + topic} {
		at := kmsg.NewAddPartitionsToTxnRequestTopic()
		at.Topic, at.Partitions = name, []int32{0}
		add.Topics = append(add.Topics, at)
	}
	old := franz(t, kgo.MaxVersions(versionsWith(map[int16]int16{24: 3})), kgo.RequestRetries(0))
	added := ask[*kmsg.AddPartitionsToTxnResponse](t, old, add)
	told := []string{}
	for _, at := range added.Topics {
		told = append(told, fmt.Sprintf("%v %v", strings.HasPrefix(at.Topic, "no-such"), at.Partitions[0].ErrorCode))
	}
	sort.Strings(told)
	t.Fact("adding a partition that exists and one that does not", fmt.Sprint(told))
}

// badOneID lets four producers fight for one transactional id. What one was told is committed can be read, once; what
// one was told is not cannot.
func badOneID(t *T) {
	topic, id := newTopic(t, "bad-one-id", 2), fresh("bad-one-id")
	ctx, cancel := context.WithTimeout(t.ctx, 15*time.Second)
	defer cancel()
	var mu sync.Mutex
	committed, unsure := map[string]bool{}, map[string]bool{}
	var fenced atomic.Int64
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for turn := 0; ctx.Err() == nil; turn++ {
				cl, err := kgo.NewClient(kgo.SeedBrokers(t.addr), kgo.TransactionalID(id), kgo.TransactionTimeout(10*time.Second), kgo.DefaultProduceTopic(topic))
				if err != nil {
					panic(err)
				}
				for n := 0; ctx.Err() == nil; n++ {
					value := fmt.Sprintf("%d-%d-%d", worker, turn, n)
					err := cl.BeginTransaction()
					if err == nil {
						err = cl.ProduceSync(ctx, kgo.StringRecord(value)).FirstErr()
					}
					if err == nil {
						mu.Lock()
						unsure[value] = true
						mu.Unlock()
						err = cl.EndTransaction(ctx, kgo.TryCommit)
					}
					if err != nil {
						if errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerIDMapping) || errors.Is(err, kerr.InvalidTxnState) {
							fenced.Add(1)
						}
						break
					}
					mu.Lock()
					committed[value] = true
					mu.Unlock()
					time.Sleep(time.Duration(rand.Intn(20)) * time.Millisecond)
				}
				cl.Close()
				time.Sleep(time.Duration(rand.Intn(200)) * time.Millisecond)
			}
		}()
	}
	wg.Wait()
	t.Equal(fenced.Load() > 0 && len(committed) > 0, true, "whether some were fenced (%d) and some committed (%d)", fenced.Load(), len(committed))
	// One more takes over, so that nothing is open any more.
	last := franz(t, kgo.TransactionalID(id), kgo.DefaultProduceTopic(topic))
	t.NoError(last.BeginTransaction(), "the last transaction")
	franzSend(t, last, kgo.StringRecord("last"))
	t.NoError(last.EndTransaction(t.ctx, kgo.TryCommit), "the last commit")
	count := map[string]int{}
	for _, value := range visible(t, topic, kgo.ReadCommitted(), len(committed)+1) {
		count[value]++
		t.Equal(value == "last" || unsure[value], true, "whether %s was ever to be committed", value)
	}
	for value := range committed {
		t.Equal(count[value], 1, "how often %s is there, which is committed", value)
	}
}

// fetchRequest asks for partition 0.
func fetchRequest(topic string, id kadm.TopicID, offset int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.ReplicaID = 10, 1, 1<<20, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = topic, id
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch, rp.LogStartOffset = offset, 1<<20, -1, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

func badOutOfRange(t *T) {
	topic := newTopic(t, "bad-range", 1)
	send(t, topic, 1, []string{"0", "1", "2", "3", "4"})
	var offsets kadm.Offsets
	offsets.AddOffset(topic, 0, 2, -1)
	_, err := franzAdmin(t).DeleteRecords(t.ctx, offsets)
	t.NoError(err, "deleting records")
	meta, err := franzAdmin(t).Metadata(t.ctx, topic)
	t.NoError(err, "metadata")
	cl := franz(t, kgo.RequestRetries(0))
	for _, offset := range []int64{-3, -1, 0, 1, 2, 4, 5, 6, 1 << 60} {
		resp, err := cl.Broker(int(meta.Controller)).Request(t.ctx, fetchRequest(topic, meta.Topics[topic].ID, offset))
		t.NoError(err, "fetching")
		p := resp.(*kmsg.FetchResponse).Topics[0].Partitions[0]
		t.Fact(fmt.Sprintf("fetching from %d of 2 to 5", offset), fmt.Sprint(p.ErrorCode, " start ", p.LogStartOffset, " end ", p.HighWatermark))
	}
	first := func(offset int64, reset kgo.Offset) string {
		reader := franz(t, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(offset)}}), kgo.ConsumeResetOffset(reset), kgo.FetchMaxWait(100*time.Millisecond))
		defer reader.Close()
		ctx, cancel := context.WithTimeout(t.ctx, 5*time.Second)
		defer cancel()
		for ctx.Err() == nil {
			fetches := reader.PollRecords(ctx, 1)
			if records := fetches.Records(); len(records) > 0 {
				return fmt.Sprint(records[0].Offset)
			}
			if err := fetches.Err0(); err != nil && ctx.Err() == nil {
				return err.Error()
			}
		}
		return "nothing"
	}
	t.Fact("a reader from 0 that resets to the start", first(0, kgo.NewOffset().AtStart()))
	t.Fact("a reader from 99 that resets to the start", first(99, kgo.NewOffset().AtStart()))
	t.Fact("a reader from 99 that resets to the end", first(99, kgo.NewOffset().AtEnd()))
}

// badDeleteUnderLoad deletes a topic that is written and read. Everybody gets errors, nobody hangs, others go on.
func badDeleteUnderLoad(t *T) {
	topic, other := newTopic(t, "bad-delete", 4), newTopic(t, "bad-other", 4)
	group := fresh("bad-delete-group")
	ctx, cancel := context.WithTimeout(t.ctx, 60*time.Second)
	defer cancel()
	producer := franz(t, kgo.UnknownTopicRetries(2), kgo.RecordRetries(3), kgo.MetadataMinAge(100*time.Millisecond), kgo.MetadataMaxAge(time.Second))
	reader := openFranz(t, topic, group, kgo.ConsumeTopics(topic, other), kgo.MetadataMinAge(100*time.Millisecond), kgo.MetadataMaxAge(time.Second))
	var stop atomic.Bool
	var acked, otherAcked atomic.Int64
	refused := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for i := 0; !stop.Load(); i++ {
			if err := producer.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr(); err != nil {
				select {
				case refused <- err:
				default:
				}
				time.Sleep(20 * time.Millisecond)
			} else {
				acked.Add(1)
			}
		}
	}()
	wg.Add(1)
	go func() {
		defer wg.Done()
		for !stop.Load() {
			if producer.ProduceSync(ctx, &kgo.Record{Topic: other, Value: []byte("x")}).FirstErr() == nil {
				otherAcked.Add(1)
			}
		}
	}()
	got := map[string]int{}
	poll := func() {
		reader.cl.AllowRebalance()
		short, done := context.WithTimeout(ctx, 100*time.Millisecond)
		reader.cl.PollFetches(short).EachRecord(func(r *kgo.Record) { got[r.Topic]++ })
		done()
	}
	t.Eventually(30*time.Second, "both topics are read", func() bool { poll(); return got[topic] > 10 && got[other] > 10 })
	_, err := franzAdmin(t).DeleteTopic(t.ctx, topic)
	t.NoError(err, "deleting the topic")
	select {
	case err := <-refused:
		var ke *kerr.Error
		t.Equal(errors.As(err, &ke) && errors.Is(err, kerr.UnknownTopicOrPartition) || strings.Contains(err.Error(), "UNKNOWN_TOPIC"), true, "whether the producer is told that the topic is unknown (%v)", err)
	case <-ctx.Done():
		t.Failf("the producer was never told that its topic is gone")
	}
	before, beforeRead := otherAcked.Load(), got[other]
	t.Eventually(30*time.Second, "the other topic is written and read on", func() bool {
		poll()
		return otherAcked.Load() > before+20 && got[other] > beforeRead+20
	})
	stop.Store(true)
	wg.Wait()
	reader.Close()
	listed, err := franzAdmin(t).ListTopics(t.ctx, topic)
	t.NoError(err, "listing")
	t.want(listed[topic].Err, kerr.UnknownTopicOrPartition, "the deleted topic")
	t.Fact("a deleted topic under load", "is gone, and the other goes on")
}

// badRecreate deletes a topic and creates it anew: its id differs, offsets begin anew, committed offsets are gone.
func badRecreate(t *T) {
	topic, group, admin := newTopic(t, "bad-again", 2), fresh("bad-again"), franzAdmin(t)
	send(t, topic, 2, []string{"a", "b", "c", "d", "e", "f"})
	var offsets kadm.Offsets
	offsets.AddOffset(topic, 0, 3, -1)
	t.NoError(admin.CommitAllOffsets(t.ctx, group, offsets), "committing")
	meta, err := admin.Metadata(t.ctx, topic)
	t.NoError(err, "metadata")
	old := meta.Topics[topic].ID
	_, err = admin.DeleteTopic(t.ctx, topic)
	t.NoError(err, "deleting")
	t.Eventually(20*time.Second, "it can be created anew", func() bool {
		_, err := admin.CreateTopic(t.ctx, 2, -1, nil, topic)
		return err == nil
	})
	t.Eventually(20*time.Second, "the new id is told", func() bool {
		meta, err := admin.Metadata(t.ctx, topic)
		return err == nil && meta.Topics[topic].Err == nil && meta.Topics[topic].ID != old && meta.Topics[topic].ID != kadm.TopicID{}
	})
	ends, err := admin.ListEndOffsets(t.ctx, topic)
	t.NoError(err, "end offsets")
	end, _ := ends.Lookup(topic, 0)
	t.Fact("the end of the new topic", end.Offset)
	t.Eventually(20*time.Second, "what was committed for the old topic is gone", func() bool {
		told, err := admin.FetchOffsets(t.ctx, group)
		_, is := told.Lookup(topic, 0)
		return err == nil && !is || err != nil && errors.Is(err, kerr.GroupIDNotFound)
	})
	cl := franz(t, kgo.RequestRetries(0))
	resp, err := cl.Broker(int(meta.Controller)).Request(t.ctx, fetchRequest(topic, old, 0))
	t.NoError(err, "fetching")
	f := resp.(*kmsg.FetchResponse)
	code := f.ErrorCode
	if len(f.Topics) > 0 {
		code = f.Topics[0].Partitions[0].ErrorCode
	}
	t.Fact("fetching by the old id", code)
	send(t, topic, 2, []string{"g", "h"})
	t.Equal(len(franzRead(t, topic, 2)), 2, "records of the new topic")
}

// badMorePartitions adds partitions while a group reads and a producer writes: all records are read, whichever they are in.
func badMorePartitions(t *T) {
	topic, group := newTopic(t, "bad-more", 1), fresh("bad-more")
	quick := []kgo.Opt{kgo.MetadataMinAge(100 * time.Millisecond), kgo.MetadataMaxAge(500 * time.Millisecond)}
	got := &seen{values: map[string]string{}, committed: map[string]bool{}}
	members := []*worker{startWorker(openFranz(t, topic, group, quick...), got), startWorker(openFranz(t, topic, group, quick...), got)}
	producer := franz(t, append(quick, kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))...)
	sent := 0
	parts := map[int32]bool{}
	write := func(n int) {
		for range n {
			r := franzSend(t, producer, &kgo.Record{Topic: topic, Value: []byte("x")})[0]
			parts[r.Partition] = true
			sent++
		}
	}
	write(20)
	t.Eventually(30*time.Second, "the first records", func() bool { return got.count() == sent })
	for _, count := range []int{3, 6} {
		told, err := franzAdmin(t).UpdatePartitions(t.ctx, count, topic)
		t.NoError(err, "more partitions")
		t.NoError(told[topic].Err, "more partitions")
		t.Eventually(30*time.Second, "the producer writes to all partitions", func() bool { write(5); return len(parts) == count })
		t.Eventually(30*time.Second, fmt.Sprintf("everything is read of %d partitions", count), func() bool { return got.count() == sent })
		t.Eventually(30*time.Second, "the members share all partitions", func() bool {
			one, two := len(members[0].m.Assigned()), len(members[1].m.Assigned())
			return one+two == count && one >= count/2 && two >= count/2
		})
	}
	for _, m := range members {
		m.leave(t)
	}
	t.Equal(got.wrong, "", "what the group has handled")
	t.Fact("a group whose topic grows", "reads all")
}
