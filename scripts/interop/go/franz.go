package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func init() {
	register("franz",
		check{name: "round-trip", run: franzRoundTrip},
		check{name: "compressions", run: franzCompressions},
		check{name: "acks", run: franzAcks},
		check{name: "partitions", run: franzPartitions},
		check{name: "offsets", run: franzOffsets},
		check{name: "regex", run: franzRegex},
		check{name: "group-cooperative", run: func(t *T) { franzGroup(t, kgo.Balancers(kgo.CooperativeStickyBalancer())) }},
		check{name: "group-range", run: func(t *T) { franzGroup(t, kgo.Balancers(kgo.RangeBalancer())) }},
		check{name: "group-sticky", run: func(t *T) { franzGroup(t, kgo.Balancers(kgo.StickyBalancer())) }},
		check{name: "group-round-robin", run: func(t *T) { franzGroup(t, kgo.Balancers(kgo.RoundRobinBalancer())) }},
		check{name: "group-848", needs: []string{"ConsumerGroupHeartbeat"}, run: func(t *T) { franzGroup(t, kgo.ServerSideBalancer()) }},
		check{name: "static-members", run: franzStatic},
		check{name: "share-group", needs: []string{"ShareFetch", "ShareAcknowledge", "ShareGroupHeartbeat"}, run: franzShare},
	)
}

func kadmName(key int16) string { return kmsg.NameForKey(key) }

// franz opens a client that is closed with the check.
func franz(t *T, opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(t.addr)}, opts...)...)
	t.NoError(err, "a client")
	context.AfterFunc(t.ctx, cl.Close)
	return cl
}

func franzAdmin(t *T) *kadm.Client { return kadm.NewClient(franz(t)) }

// newTopic creates a topic with configs given as key=value.
func newTopic(t *T, stem string, partitions int32, configs ...string) string {
	topic := fresh(stem)
	set := map[string]*string{}
	for _, config := range configs {
		key, value, _ := strings.Cut(config, "=")
		set[key] = &value
	}
	_, err := franzAdmin(t).CreateTopic(t.ctx, partitions, -1, set, topic)
	t.NoError(err, "creating %s", topic)
	// Kafka answers before its broker knows.
	t.Eventually(30*time.Second, "the topic is there", func() bool {
		told, err := franzAdmin(t).ListTopics(t.ctx, topic)
		return err == nil && told[topic].Err == nil && len(told[topic].Partitions) == int(partitions)
	})
	return topic
}

// franzSend produces synchronously and gives the records with their offsets.
func franzSend(t *T, cl *kgo.Client, records ...*kgo.Record) []*kgo.Record {
	results := cl.ProduceSync(t.ctx, records...)
	t.NoError(results.FirstErr(), "producing")
	return records
}

// send produces values, the i-th to partition i%partitions of the topic.
func send(t *T, topic string, partitions int, values []string) {
	cl := franz(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer cl.Close()
	var records []*kgo.Record
	for i, value := range values {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: []byte(value)})
	}
	franzSend(t, cl, records...)
}

// franzRead reads count records, from the beginning, of all partitions of a topic.
func franzRead(t *T, topic string, count int, opts ...kgo.Opt) []*kgo.Record {
	opts = append([]kgo.Opt{kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(500 * time.Millisecond)}, opts...)
	cl := franz(t, opts...)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.ctx, 30*time.Second)
	defer cancel()
	var records []*kgo.Record
	for len(records) < count {
		fetches := cl.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			t.Failf("reading %s: %v, with %d of %d records", topic, e.Err, len(records), count)
		}
		records = append(records, fetches.Records()...)
	}
	t.Equal(len(records), count, "records of %s", topic)
	sort.SliceStable(records, func(i, j int) bool {
		a, b := records[i], records[j]
		return a.Partition < b.Partition || a.Partition == b.Partition && a.Offset < b.Offset
	})
	return records
}

func headersText(headers []kgo.RecordHeader) string {
	var text []string
	for _, h := range headers {
		text = append(text, fmt.Sprintf("%s=%q", h.Key, h.Value))
	}
	return strings.Join(text, ",")
}

func franzRoundTrip(t *T) {
	topic := newTopic(t, "trip", 1)
	headers := []kgo.RecordHeader{{Key: "h", Value: []byte{0, 255}}, {Key: "h", Value: []byte("again")}, {Key: "empty", Value: nil}}
	base := time.Now().Truncate(time.Millisecond)
	var sent []*kgo.Record
	for i := range 50 {
		r := &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "value-%d", i), Headers: headers, Timestamp: base.Add(time.Duration(i) * time.Millisecond)}
		if i%3 > 0 {
			r.Key = fmt.Appendf(nil, "key-%d", i)
		}
		if i == 7 {
			r.Value = nil
		}
		sent = append(sent, r)
	}
	franzSend(t, franz(t), sent...)
	for i, r := range franzRead(t, topic, 50) {
		t.Equal(r.Offset, i, "offset")
		t.Equal(fmt.Sprintf("%q %v", r.Key, r.Key == nil), fmt.Sprintf("%q %v", sent[i].Key, sent[i].Key == nil), "key of record %d", i)
		t.Equal(fmt.Sprintf("%q %v", r.Value, r.Value == nil), fmt.Sprintf("%q %v", sent[i].Value, sent[i].Value == nil), "value of record %d", i)
		t.Equal(headersText(r.Headers), headersText(headers), "headers of record %d", i)
		t.Equal(r.Timestamp.UnixMilli(), sent[i].Timestamp.UnixMilli(), "timestamp of record %d", i)
	}
}

func franzCompressions(t *T) {
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	for name, codec := range codecs {
		topic := newTopic(t, name, 1)
		cl := franz(t, kgo.ProducerBatchCompression(codec))
		var sent []*kgo.Record
		for i := range 1000 {
			sent = append(sent, &kgo.Record{Topic: topic, Value: []byte(strings.Repeat(fmt.Sprintf("%06d ", i), i%40+1))})
		}
		franzSend(t, cl, sent...)
		for i, r := range franzRead(t, topic, 1000) {
			t.Equal(r.Offset, i, "%s: offset", name)
			t.Equal(string(r.Value), string(sent[i].Value), "%s: value of record %d", name, i)
		}
	}
}

func franzAcks(t *T) {
	topic := newTopic(t, "acks", 1)
	for _, acks := range []kgo.Acks{kgo.NoAck(), kgo.LeaderAck(), kgo.AllISRAcks()} {
		cl := franz(t, kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite())
		franzSend(t, cl, &kgo.Record{Topic: topic, Value: []byte("one")})
		t.NoError(cl.Flush(t.ctx), "flush")
	}
	franzRead(t, topic, 3)
}

func franzPartitions(t *T) {
	topic := newTopic(t, "many", 50)
	var values []string
	for i := range 1000 {
		values = append(values, fmt.Sprintf("%d", i))
	}
	send(t, topic, 50, values)
	counts := map[int32]int{}
	for _, r := range franzRead(t, topic, 1000) {
		t.Equal(string(r.Value), int(r.Offset)*50+int(r.Partition), "value at %d/%d", r.Partition, r.Offset)
		counts[r.Partition]++
	}
	t.Equal(len(counts), 50, "partitions with records")
}

func franzOffsets(t *T) {
	topic := newTopic(t, "offsets", 1)
	base := time.Now().Add(-100 * time.Second).Truncate(time.Millisecond)
	cl := franz(t)
	for i := range 10 {
		franzSend(t, cl, &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "%d", i), Timestamp: base.Add(time.Duration(i) * time.Second)})
	}
	admin := franzAdmin(t)
	offset := func(told kadm.ListedOffsets, err error) string {
		t.NoError(err, "listing offsets")
		o, ok := told.Lookup(topic, 0)
		if !ok || o.Err != nil {
			t.Failf("no offset is told: %v", o.Err)
		}
		return fmt.Sprintf("%d at %d", o.Offset, o.Timestamp)
	}
	at := func(i int) int64 { return base.Add(time.Duration(i) * time.Second).UnixMilli() }
	t.Equal(offset(admin.ListStartOffsets(t.ctx, topic)), "0 at -1", "start")
	t.Equal(offset(admin.ListEndOffsets(t.ctx, topic)), "10 at -1", "end")
	t.Equal(offset(admin.ListCommittedOffsets(t.ctx, topic)), "10 at -1", "end of what is committed")
	t.Equal(offset(admin.ListMaxTimestampOffsets(t.ctx, topic)), fmt.Sprintf("9 at %d", at(9)), "largest timestamp")
	t.Equal(offset(admin.ListLocalLogStartOffsets(t.ctx, topic)), "0 at -1", "start of the local log")
	t.Equal(offset(admin.ListOffsetsAfterMilli(t.ctx, at(4)-500, topic)), fmt.Sprintf("4 at %d", at(4)), "after a time")
	t.Equal(offset(admin.ListOffsetsAfterMilli(t.ctx, at(20), topic)), "10 at -1", "after the last record")
	first := func(start kgo.Offset) int64 {
		one := franz(t, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: start}}))
		defer one.Close()
		fetches := one.PollRecords(t.ctx, 1)
		t.NoError(fetches.Err0(), "polling")
		return fetches.Records()[0].Offset
	}
	t.Equal(first(kgo.NewOffset().At(6)), 6, "first record at 6")
	t.Equal(first(kgo.NewOffset().AtEnd().Relative(-3)), 7, "first record three before the end")
	t.Equal(first(kgo.NewOffset().AfterMilli(at(2)+1)), 3, "first record after a time")
	_, err := admin.DeleteRecords(t.ctx, kadm.OffsetsFromRecords(kgo.Record{Topic: topic, Partition: 0, Offset: 3}))
	t.NoError(err, "deleting records")
	t.Equal(offset(admin.ListStartOffsets(t.ctx, topic)), "4 at -1", "start after deleting up to 4")
	// Out of range: the client's reset policy decides where it goes on.
	out := franz(t, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(1)}}), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	fetches := out.PollRecords(t.ctx, 1)
	t.NoError(fetches.Err0(), "polling from a deleted offset")
	t.Equal(fetches.Records()[0].Offset, 4, "first record from a deleted offset")
	stuck := franz(t, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(1)}}), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	t.Equal(errors.Is(stuck.PollRecords(t.ctx, 1).Err0(), kerr.OffsetOutOfRange), true, "OFFSET_OUT_OF_RANGE without a reset policy")
	var req kadm.OffsetForLeaderEpochRequest
	req.Add(topic, 0, 0)
	ends, err := admin.OffsetForLeaderEpoch(t.ctx, req)
	t.NoError(err, "OffsetForLeaderEpoch")
	t.NoError(ends[topic][0].Err, "OffsetForLeaderEpoch of the partition")
	t.Equal(ends[topic][0].EndOffset, 10, "where the leader epoch ends")
}

func franzRegex(t *T) {
	stem := fresh("regex")
	admin := franzAdmin(t)
	_, err := admin.CreateTopics(t.ctx, 1, -1, nil, stem+"-a", stem+"-b", "other-"+stem)
	t.NoError(err, "creating topics")
	cl := franz(t)
	for _, topic := range []string{stem + "-a", stem + "-b", "other-" + stem} {
		franzSend(t, cl, &kgo.Record{Topic: topic, Value: []byte(topic)})
	}
	reader := franz(t, kgo.ConsumeRegex(), kgo.ConsumeTopics("^"+stem+"-.*"), kgo.ConsumerGroup(fresh("regex-group")),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMaxAge(time.Second), kgo.MetadataMinAge(100*time.Millisecond))
	got := map[string]bool{}
	want := func(topics ...string) {
		t.Eventually(30*time.Second, fmt.Sprintf("records of %v", topics), func() bool {
			ctx, cancel := context.WithTimeout(t.ctx, 300*time.Millisecond)
			defer cancel()
			reader.PollFetches(ctx).EachRecord(func(r *kgo.Record) { got[r.Topic] = true })
			for _, topic := range topics {
				if !got[topic] {
					return false
				}
			}
			return true
		})
	}
	want(stem+"-a", stem+"-b")
	_, err = admin.CreateTopic(t.ctx, 1, -1, nil, stem+"-later")
	t.NoError(err, "creating a topic later")
	franzSend(t, cl, &kgo.Record{Topic: stem + "-later", Value: []byte("later")})
	want(stem + "-later")
	t.Equal(got["other-"+stem], false, "a topic that does not match is read")
	reader.Close()
}

// franzMember is a group's member.
type franzMember struct {
	cl      *kgo.Client
	records []*kgo.Record
	parts   chan map[int32]bool
}

func openFranz(t *T, topic, group string, opts ...kgo.Opt) *franzMember {
	m := &franzMember{parts: make(chan map[int32]bool, 1)}
	m.parts <- map[int32]bool{}
	change := func(to bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, told map[string][]int32) {
			parts := <-m.parts
			for _, p := range told[topic] {
				parts[p] = to
			}
			m.parts <- parts
		}
	}
	opts = append([]kgo.Opt{kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(10 * time.Second), kgo.HeartbeatInterval(300 * time.Millisecond),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false))}, opts...)
	m.cl = franz(t, opts...)
	return m
}

func (m *franzMember) Poll() []record {
	m.cl.AllowRebalance()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	fetches := m.cl.PollFetches(ctx)
	for _, e := range fetches.Errors() {
		if !errors.Is(e.Err, context.DeadlineExceeded) {
			panic(failure(fmt.Sprintf("polling: %v", e.Err)))
		}
	}
	m.records = fetches.Records()
	var records []record
	for _, r := range m.records {
		records = append(records, record{partition: r.Partition, offset: r.Offset, value: string(r.Value)})
	}
	return records
}

func (m *franzMember) Commit() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := m.cl.CommitRecords(ctx, m.records...)
	switch {
	case err == nil:
		return true
	case errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.StaleMemberEpoch):
		return false
	}
	panic(failure(fmt.Sprintf("commit: %v", err)))
}

func (m *franzMember) Assigned() []int32 {
	parts := <-m.parts
	defer func() { m.parts <- parts }()
	var list []int32
	for p, has := range parts {
		if has {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	return list
}

func (m *franzMember) Close() { m.cl.CloseAllowingRebalance() }

func franzGroup(t *T, opt kgo.Opt) {
	topic, group := newTopic(t, "group-topic", 4), fresh("group")
	checkGroup(t, func() member { return openFranz(t, topic, group, opt) }, func(values []string) { send(t, topic, 4, values) })
}

// franzStatic lets a static member go and come back without a rebalance, and a second one with its name fence it.
func franzStatic(t *T) {
	topic, group := newTopic(t, "static-topic", 4), fresh("static")
	s := &seen{values: map[string]string{}, committed: map[string]bool{}}
	one := openFranz(t, topic, group, kgo.InstanceID("one"))
	first := startWorker(one, s)
	second := startWorker(openFranz(t, topic, group, kgo.InstanceID("two")), s)
	t.Eventually(40*time.Second, "two static members have two partitions each", func() bool {
		return len(first.m.Assigned()) == 2 && len(second.m.Assigned()) == 2
	})
	generation := func() string {
		described, err := franzAdmin(t).DescribeGroups(t.ctx, group)
		t.NoError(err, "describing the group")
		instances := []string{}
		for _, m := range described[group].Members {
			if m.InstanceID != nil {
				instances = append(instances, *m.InstanceID)
			}
		}
		sort.Strings(instances)
		return fmt.Sprintf("%s %v", described[group].State, instances)
	}
	t.Equal(generation(), "Stable [one two]", "the group with its static members")
	held := fmt.Sprint(second.m.Assigned())
	// A static member that closes does not leave.
	first.leave(t)
	t.Equal(generation(), "Stable [one two]", "the group after a static member has gone")
	again := openFranz(t, topic, group, kgo.InstanceID("one"))
	third := startWorker(again, s)
	t.Eventually(40*time.Second, "the static member has its partitions again", func() bool { return len(third.m.Assigned()) == 2 })
	t.Equal(fmt.Sprint(second.m.Assigned()), held, "the partitions of the member that stayed")
	var b = kadm.LeaveGroup(group).InstanceIDs("one", "two").Reason("the check is over")
	third.leave(t)
	second.leave(t)
	left, err := franzAdmin(t).LeaveGroup(t.ctx, b)
	t.NoError(err, "removing static members")
	t.Equal(left.Ok(), true, "whether the static members were removed")
	t.Equal(generation(), "Empty []", "the group without its static members")
}

func franzShare(t *T) {
	topic, group := newTopic(t, "share-topic", 3), fresh("share")
	earliest := "earliest"
	cl := franz(t)
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
	config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	config.Name, config.Value = "share.auto.offset.reset", &earliest
	resource.Configs = append(resource.Configs, config)
	req.Resources = append(req.Resources, resource)
	resp, err := req.RequestWith(t.ctx, cl)
	t.NoError(err, "setting the group's start")
	t.NoError(kerr.ErrorForCode(resp.Resources[0].ErrorCode), "setting the group's start")
	var values []string
	for i := range 300 {
		values = append(values, fmt.Sprintf("s%06d", i))
	}
	send(t, topic, 3, values)
	got := map[string]int{}
	members := []*kgo.Client{}
	for range 2 {
		members = append(members, franz(t, kgo.ShareGroup(group), kgo.ConsumeTopics(topic)))
	}
	t.Eventually(60*time.Second, "all records came through the share group", func() bool {
		for _, m := range members {
			ctx, cancel := context.WithTimeout(t.ctx, 300*time.Millisecond)
			m.PollFetches(ctx).EachRecord(func(r *kgo.Record) { got[string(r.Value)]++ })
			cancel()
		}
		return len(got) == len(values)
	})
	described, err := kadm.NewClient(cl).DescribeShareGroups(t.ctx, group)
	t.NoError(err, "describing the share group")
	t.Equal(len(described[group].Members), 2, "members of the share group")
	for _, m := range members {
		m.Close()
	}
}
