package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
)

func init() {
	sarama.Logger = log.New(io.Discard, "", 0)
	register("sarama",
		check{name: "round-trip", run: saramaRoundTrip},
		check{name: "compressions", run: saramaCompressions},
		check{name: "versions", run: saramaVersions},
		check{name: "async", run: saramaAsync},
		check{name: "offsets", run: saramaOffsets},
		check{name: "group-range", run: func(t *T) { saramaGroup(t, sarama.NewBalanceStrategyRange()) }},
		check{name: "group-sticky", run: func(t *T) { saramaGroup(t, sarama.NewBalanceStrategySticky()) }},
		check{name: "group-cooperative", run: func(t *T) { saramaGroup(t, sarama.NewBalanceStrategyCooperativeSticky()) }},
		check{name: "static-members", run: saramaStatic},
		check{name: "admin-topics", run: saramaAdminTopics},
		check{name: "admin-configs", run: saramaAdminConfigs},
		check{name: "admin-groups", run: saramaAdminGroups},
		check{name: "admin-acls", needs: []string{"DescribeACLs", "CreateACLs", "DeleteACLs"}, run: saramaAdminACLs},
		check{name: "admin-scram", needs: []string{"DescribeUserSCRAMCredentials", "AlterUserSCRAMCredentials"}, run: saramaAdminSCRAM},
		check{name: "txn", needs: txnAPIs, run: saramaTxn},
		check{name: "txn-offsets", needs: txnAPIs, run: saramaTxnOffsets},
		check{name: "txn-fencing", needs: txnAPIs, run: saramaTxnFencing},
	)
}

func saramaConfig(change ...func(*sarama.Config)) *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Consumer.Return.Errors = true
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Metadata.Retry.Max = 10
	for _, c := range change {
		c(config)
	}
	return config
}

// closeWith closes a client with the check.
func closeWith(t *T, c io.Closer) { context.AfterFunc(t.ctx, func() { c.Close() }) }

func saramaAdmin(t *T) sarama.ClusterAdmin {
	admin, err := sarama.NewClusterAdmin([]string{t.addr}, saramaConfig())
	t.NoError(err, "an admin client")
	closeWith(t, admin)
	return admin
}

func saramaProducer(t *T, change ...func(*sarama.Config)) sarama.SyncProducer {
	producer, err := sarama.NewSyncProducer([]string{t.addr}, saramaConfig(change...))
	t.NoError(err, "a producer")
	return producer
}

func idempotent(config *sarama.Config) {
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
}

// saramaRead reads count records of a partition from an offset on.
func saramaRead(t *T, topic string, partition int32, offset int64, count int, change ...func(*sarama.Config)) []*sarama.ConsumerMessage {
	consumer, err := sarama.NewConsumer([]string{t.addr}, saramaConfig(change...))
	t.NoError(err, "a consumer")
	defer consumer.Close()
	part, err := consumer.ConsumePartition(topic, partition, offset)
	t.NoError(err, "consuming a partition")
	defer part.Close()
	var messages []*sarama.ConsumerMessage
	timeout := time.After(30 * time.Second)
	for len(messages) < count {
		select {
		case m := <-part.Messages():
			messages = append(messages, m)
		case err := <-part.Errors():
			t.Failf("consuming: %v", err)
		case <-timeout:
			t.Failf("only %d of %d records of %s came", len(messages), count, topic)
		}
	}
	return messages
}

func saramaRoundTrip(t *T) {
	topic := newTopic(t, "s-trip", 1)
	producer := saramaProducer(t, idempotent)
	defer producer.Close()
	headers := []sarama.RecordHeader{{Key: []byte("h"), Value: []byte{0, 255}}, {Key: []byte("h"), Value: []byte("again")}}
	base := time.Now().Truncate(time.Millisecond)
	var sent []*sarama.ProducerMessage
	for i := range 50 {
		m := &sarama.ProducerMessage{Topic: topic, Headers: headers, Timestamp: base.Add(time.Duration(i) * time.Millisecond)}
		if i%3 > 0 {
			m.Key = sarama.StringEncoder(fmt.Sprintf("key-%d", i))
		}
		if i != 7 {
			m.Value = sarama.StringEncoder(fmt.Sprintf("value-%d", i))
		}
		sent = append(sent, m)
	}
	t.NoError(producer.SendMessages(sent), "sending")
	for i, m := range saramaRead(t, topic, 0, sarama.OffsetOldest, 50) {
		t.Equal(m.Offset, i, "offset")
		t.Equal(m.Offset, sent[i].Offset, "acknowledged offset")
		key, value := fmt.Sprintf("key-%d", i), fmt.Sprintf("value-%d", i)
		t.Equal(m.Key == nil, i%3 == 0, "whether key %d is null", i)
		t.Equal(m.Value == nil, i == 7, "whether value %d is null", i)
		t.Equal(m.Key == nil || string(m.Key) == key, true, "key of record %d", i)
		t.Equal(m.Value == nil || string(m.Value) == value, true, "value of record %d", i)
		t.Equal(len(m.Headers), 2, "headers of record %d", i)
		t.Equal(fmt.Sprintf("%s=%q", m.Headers[0].Key, m.Headers[0].Value), `h="\x00\xff"`, "first header of record %d", i)
		t.Equal(m.Timestamp.UnixMilli(), base.UnixMilli()+int64(i), "timestamp of record %d", i)
	}
}

func saramaCompressions(t *T) {
	for _, codec := range []sarama.CompressionCodec{sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD} {
		topic := newTopic(t, "s-"+codec.String(), 1)
		producer := saramaProducer(t, func(c *sarama.Config) { c.Producer.Compression = codec })
		var sent []*sarama.ProducerMessage
		for i := range 1000 {
			sent = append(sent, &sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(strings.Repeat(fmt.Sprintf("%06d ", i), i%40+1))})
		}
		t.NoError(producer.SendMessages(sent), "%s: sending", codec)
		t.NoError(producer.Close(), "closing")
		for i, m := range saramaRead(t, topic, 0, 0, 1000) {
			t.Equal(m.Offset, i, "%s: offset", codec)
			t.Equal(string(m.Value), strings.Repeat(fmt.Sprintf("%06d ", i), i%40+1), "%s: record %d", codec, i)
		}
	}
}

// saramaVersions speaks as clients of many times did; Kafka 4 has dropped those before 2.1.
func saramaVersions(t *T) {
	for _, version := range []sarama.KafkaVersion{sarama.V2_1_0_0, sarama.V2_4_0_0, sarama.V2_8_0_0, sarama.V3_3_0_0, sarama.V3_9_0_0, sarama.MaxVersion} {
		topic := newTopic(t, "s-version", 1)
		speak := func(c *sarama.Config) { c.Version = version }
		producer := saramaProducer(t, speak)
		partition, offset, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(version.String())})
		t.NoError(err, "%s: sending", version)
		t.Equal(fmt.Sprint(partition, offset), "0 0", "%s: place", version)
		producer.Close()
		t.Equal(string(saramaRead(t, topic, 0, 0, 1, speak)[0].Value), version.String(), "%s: value", version)
		admin, err := sarama.NewClusterAdmin([]string{t.addr}, saramaConfig(speak))
		t.NoError(err, "%s: an admin client", version)
		topics, err := admin.ListTopics()
		t.NoError(err, "%s: listing topics", version)
		t.Equal(topics[topic].NumPartitions, 1, "%s: partitions", version)
		t.NoError(admin.DeleteTopic(topic), "%s: deleting the topic", version)
		admin.Close()
	}
}

func saramaAsync(t *T) {
	topic := newTopic(t, "s-async", 3)
	producer, err := sarama.NewAsyncProducer([]string{t.addr}, saramaConfig(func(c *sarama.Config) {
		c.Producer.Flush.Frequency = 5 * time.Millisecond
		c.Producer.Flush.MaxMessages = 500
	}))
	t.NoError(err, "a producer")
	go func() {
		for i := range 5000 {
			producer.Input() <- &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(fmt.Sprint(i % 97)), Value: sarama.StringEncoder(fmt.Sprint(i))}
		}
		producer.AsyncClose()
	}()
	places := map[string]bool{}
	go func() {
		for err := range producer.Errors() {
			panic(err)
		}
	}()
	for m := range producer.Successes() {
		places[fmt.Sprint(m.Partition, "/", m.Offset)] = true
	}
	t.Equal(len(places), 5000, "places of what was acknowledged")
}

func saramaOffsets(t *T) {
	topic := newTopic(t, "s-offsets", 1)
	producer := saramaProducer(t)
	defer producer.Close()
	base := time.Now().Add(-100 * time.Second).Truncate(time.Millisecond)
	for i := range 10 {
		_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(fmt.Sprint(i)), Timestamp: base.Add(time.Duration(i) * time.Second)})
		t.NoError(err, "sending")
	}
	client, err := sarama.NewClient([]string{t.addr}, saramaConfig())
	t.NoError(err, "a client")
	defer client.Close()
	offset := func(time int64) int64 {
		o, err := client.GetOffset(topic, 0, time)
		t.NoError(err, "an offset")
		return o
	}
	t.Equal(offset(sarama.OffsetOldest), 0, "oldest")
	t.Equal(offset(sarama.OffsetNewest), 10, "newest")
	t.Equal(offset(base.UnixMilli()+4500), 5, "after a time")
	t.Equal(offset(base.UnixMilli()+99000), -1, "after the last record")
	admin := saramaAdmin(t)
	t.NoError(admin.DeleteRecords(topic, map[int32]int64{0: 4}), "deleting records")
	t.Equal(offset(sarama.OffsetOldest), 4, "oldest after deleting up to 4")
	consumer, err := sarama.NewConsumerFromClient(client)
	t.NoError(err, "a consumer")
	_, err = consumer.ConsumePartition(topic, 0, 1)
	t.Equal(errors.Is(err, sarama.ErrOffsetOutOfRange), true, "whether a deleted offset is out of range (%v)", err)
	_, err = consumer.ConsumePartition(topic, 0, 99)
	t.Equal(errors.Is(err, sarama.ErrOffsetOutOfRange), true, "whether an offset beyond the end is out of range (%v)", err)
	manager, err := sarama.NewOffsetManagerFromClient(fresh("s-om"), client)
	t.NoError(err, "an offset manager")
	part, err := manager.ManagePartition(topic, 0)
	t.NoError(err, "managing a partition")
	part.MarkOffset(7, "half way")
	manager.Commit()
	t.NoError(part.Close(), "closing")
	part, err = manager.ManagePartition(topic, 0)
	t.NoError(err, "managing a partition again")
	next, metadata := part.NextOffset()
	t.Equal(fmt.Sprint(next, " ", metadata), "7 half way", "the committed offset")
	part.Close()
	manager.Close()
}

// saramaMember is a group's member; sarama calls it back per partition.
type saramaMember struct {
	topic   string
	group   sarama.ConsumerGroup
	stop    context.CancelFunc
	ended   chan struct{}
	records chan *sarama.ConsumerMessage
	mu      sync.Mutex
	session sarama.ConsumerGroupSession
	claims  map[int32]bool
	last    []*sarama.ConsumerMessage
}

func openSarama(t *T, topic, group string, change func(*sarama.Config)) *saramaMember {
	g, err := sarama.NewConsumerGroup([]string{t.addr}, group, saramaConfig(func(c *sarama.Config) {
		c.Consumer.Offsets.AutoCommit.Enable = false
		c.Consumer.Group.Session.Timeout = 10 * time.Second
		c.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
		c.Consumer.MaxWaitTime = 200 * time.Millisecond
		c.Consumer.Return.Errors = false
	}, change))
	t.NoError(err, "a member of a group")
	ctx, stop := context.WithCancel(context.Background())
	m := &saramaMember{topic: topic, group: g, stop: stop, ended: make(chan struct{}), records: make(chan *sarama.ConsumerMessage), claims: map[int32]bool{}}
	go func() {
		defer close(m.ended)
		for ctx.Err() == nil {
			if err := g.Consume(ctx, []string{topic}, m); err != nil {
				time.Sleep(50 * time.Millisecond)
			}
		}
	}()
	return m
}

func (m *saramaMember) Setup(session sarama.ConsumerGroupSession) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.session = session
	return nil
}

func (m *saramaMember) Cleanup(sarama.ConsumerGroupSession) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.session = nil
	return nil
}

func (m *saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	m.mu.Lock()
	m.claims[claim.Partition()] = true
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.claims, claim.Partition())
		m.mu.Unlock()
	}()
	for {
		select {
		case message, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			select {
			case m.records <- message:
			case <-session.Context().Done():
				return nil
			case <-time.After(10 * time.Second):
				return nil
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func (m *saramaMember) Poll() []record {
	var records []record
	m.last = nil
	timeout := time.After(200 * time.Millisecond)
	for len(records) < 100 {
		select {
		case message := <-m.records:
			m.last = append(m.last, message)
			records = append(records, record{partition: message.Partition, offset: message.Offset, value: string(message.Value)})
		case <-timeout:
			return records
		}
	}
	return records
}

// Commit can't tell whether the commit was taken, so nothing counts as committed.
func (m *saramaMember) Commit() bool {
	m.mu.Lock()
	session := m.session
	m.mu.Unlock()
	if session != nil {
		for _, message := range m.last {
			session.MarkMessage(message, "")
		}
		session.Commit()
	}
	return false
}

func (m *saramaMember) Assigned() []int32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []int32
	for p := range m.claims {
		list = append(list, p)
	}
	return list
}

func (m *saramaMember) Close() {
	m.stop()
	<-m.ended
	m.group.Close()
}

func saramaGroup(t *T, strategy sarama.BalanceStrategy) {
	topic, group := newTopic(t, "s-group-topic", 4), fresh("s-group")
	checkGroup(t, func() member {
		return openSarama(t, topic, group, func(c *sarama.Config) {
			c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy}
		})
	}, func(values []string) { send(t, topic, 4, values) })
}

func saramaStatic(t *T) {
	topic, group := newTopic(t, "s-static-topic", 4), fresh("s-static")
	s := &seen{values: map[string]string{}, committed: map[string]bool{}}
	open := func(name string) *worker {
		return startWorker(openSarama(t, topic, group, func(c *sarama.Config) { c.Consumer.Group.InstanceId = name }), s)
	}
	first, second := open("one"), open("two")
	t.Eventually(40*time.Second, "two static members have two partitions each", func() bool {
		return len(first.m.Assigned()) == 2 && len(second.m.Assigned()) == 2
	})
	admin := saramaAdmin(t)
	members := func() string {
		described, err := admin.DescribeConsumerGroups([]string{group})
		t.NoError(err, "describing the group")
		names := []string{}
		for _, m := range described[0].Members {
			if m.GroupInstanceId != nil {
				names = append(names, *m.GroupInstanceId)
			}
		}
		sort.Strings(names)
		return fmt.Sprint(described[0].State, names)
	}
	t.Equal(members(), "Stable[one two]", "the group")
	first.leave(t)
	t.Equal(members(), "Stable[one two]", "the group when a static member has gone")
	third := open("one")
	t.Eventually(40*time.Second, "the static member has its partitions again", func() bool { return len(third.m.Assigned()) == 2 })
	third.leave(t)
	second.leave(t)
	left, err := admin.RemoveMemberFromConsumerGroup(group, []string{"one", "two"})
	t.NoError(err, "removing static members")
	t.Equal(left.Err, sarama.ErrNoError, "removing static members")
	t.Equal(members(), "Empty[]", "the group without members")
}

func saramaAdminTopics(t *T) {
	admin := saramaAdmin(t)
	topic, retention := fresh("s-admin"), "3600000"
	detail := &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": &retention}}
	t.NoError(admin.CreateTopic(topic, detail, true), "validating")
	t.NoError(admin.CreateTopic(topic, detail, false), "creating")
	err := admin.CreateTopic(topic, detail, false)
	t.Equal(errors.Is(err, sarama.ErrTopicAlreadyExists), true, "whether a topic cannot be created twice (%v)", err)
	// A real Kafka tells of a new topic a moment after it has answered.
	t.Eventually(10*time.Second, "the topic is listed with its config", func() bool {
		topics, err := admin.ListTopics()
		t.NoError(err, "listing")
		listed, retention := topics[topic], topics[topic].ConfigEntries["retention.ms"]
		return listed.NumPartitions == 3 && listed.ReplicationFactor == 1 && retention != nil && *retention == "3600000"
	})
	t.NoError(admin.CreatePartitions(topic, 5, nil, false), "more partitions")
	t.Eventually(20*time.Second, "five partitions", func() bool {
		described, err := admin.DescribeTopics([]string{topic})
		return err == nil && len(described[0].Partitions) == 5
	})
	brokers, controller, err := admin.DescribeCluster()
	t.NoError(err, "describing the cluster")
	t.Equal(len(brokers), 1, "brokers")
	t.Equal(controller, brokers[0].ID(), "controller")
	t.NoError(admin.AlterPartitionReassignments(topic, [][]int32{{controller}, {controller}, {controller}, {controller}, {controller}}), "reassigning")
	status, err := admin.ListPartitionReassignments(topic, []int32{0, 1})
	t.NoError(err, "listing reassignments")
	t.Equal(len(status[topic]), 0, "reassignments under way")
	elected, err := admin.ElectLeaders(sarama.PreferredElection, map[string][]int32{topic: {0}})
	t.NoError(err, "electing leaders")
	t.Equal(elected[topic][0].ErrorCode, sarama.ErrElectionNotNeeded, "electing the leader that leads")
	dirs, err := admin.DescribeLogDirs([]int32{controller})
	t.NoError(err, "log directories")
	t.Equal(len(dirs[controller]) > 0, true, "whether a log directory is told")
	t.NoError(admin.DeleteTopic(topic), "deleting")
	err = admin.DeleteTopic(topic)
	t.Equal(errors.Is(err, sarama.ErrUnknownTopicOrPartition), true, "whether a topic cannot be deleted twice (%v)", err)
}

func saramaAdminConfigs(t *T) {
	admin := saramaAdmin(t)
	topic := newTopic(t, "s-configs", 1, "retention.ms=3600000")
	told := func(name string) string {
		entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{name}})
		t.NoError(err, "describing configs")
		t.Equal(len(entries), 1, "entries of one name")
		return fmt.Sprint(entries[0].Value, " ", entries[0].Default)
	}
	value := func(name string) func() string { return func() string { return told(name) } }
	t.Becomes(value("retention.ms"), "3600000 false", "retention.ms")
	bytes, bad := "123456", "lots"
	t.NoError(admin.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{
		"max.message.bytes": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &bytes},
		"retention.ms":      {Operation: sarama.IncrementalAlterConfigsOperationDelete},
	}, false), "altering incrementally")
	t.Becomes(value("max.message.bytes"), "123456 false", "max.message.bytes")
	t.Becomes(value("retention.ms"), "604800000 true", "retention.ms, deleted")
	err := admin.AlterConfig(sarama.TopicResource, topic, map[string]*string{"max.message.bytes": &bad}, false)
	t.Equal(err != nil, true, "whether max.message.bytes=lots is refused")
	t.NoError(admin.AlterConfig(sarama.TopicResource, topic, map[string]*string{"retention.ms": &bytes}, false), "altering")
	t.Becomes(value("max.message.bytes"), "1048588 true", "max.message.bytes, which AlterConfigs took back")
	brokers, _, err := admin.DescribeCluster()
	t.NoError(err, "describing the cluster")
	entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.BrokerResource, Name: fmt.Sprint(brokers[0].ID())})
	t.NoError(err, "describing the broker")
	t.Equal(len(entries) > 20, true, "whether the broker tells its configs")
}

func saramaAdminGroups(t *T) {
	admin := saramaAdmin(t)
	topic, group := newTopic(t, "s-ga", 2), fresh("s-ga")
	send(t, topic, 2, []string{"a", "b", "c", "d"})
	m := openSarama(t, topic, group, func(*sarama.Config) {})
	read := 0
	t.Eventually(30*time.Second, "the member has read everything", func() bool {
		read += len(m.Poll())
		m.Commit()
		return read == 4
	})
	groups, err := admin.ListConsumerGroups()
	t.NoError(err, "listing groups")
	t.Equal(groups[group], "consumer", "the listed group")
	described, err := admin.DescribeConsumerGroups([]string{group})
	t.NoError(err, "describing")
	t.Equal(described[0].State, "Stable", "state of the group")
	assigned := []int32{}
	for _, member := range described[0].Members {
		assignment, err := member.GetMemberAssignment()
		t.NoError(err, "reading an assignment")
		assigned = append(assigned, assignment.Topics[topic]...)
	}
	slices.Sort(assigned)
	t.Equal(assigned, "[0 1]", "assigned partitions")
	err = admin.DeleteConsumerGroup(group)
	t.Equal(errors.Is(err, sarama.ErrNonEmptyGroup), true, "whether a group with a member cannot be deleted (%v)", err)
	m.Close()
	told, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0, 1}})
	t.NoError(err, "offsets")
	t.Equal(fmt.Sprint(told.GetBlock(topic, 0).Offset, told.GetBlock(topic, 1).Offset), "2 2", "committed offsets")
	t.Eventually(20*time.Second, "an offset can be altered when the member is gone", func() bool {
		response, err := admin.AlterConsumerGroupOffsets(group, map[string]map[int32]sarama.OffsetAndMetadata{topic: {0: {Offset: 1}}}, nil)
		return err == nil && response.Errors[topic][0] == sarama.ErrNoError
	})
	t.NoError(admin.DeleteConsumerGroupOffset(group, topic, 1), "deleting an offset")
	told, err = admin.ListConsumerGroupOffsets(group, nil)
	t.NoError(err, "offsets of all topics")
	t.Equal(len(told.Blocks[topic]), 1, "offsets that are left")
	t.NoError(admin.DeleteConsumerGroup(group), "deleting the group")
	err = admin.DeleteConsumerGroup(group)
	t.Equal(errors.Is(err, sarama.ErrGroupIDNotFound), true, "whether a group cannot be deleted twice (%v)", err)
}

func saramaAdminACLs(t *T) {
	admin := saramaAdmin(t)
	resource := sarama.Resource{ResourceType: sarama.AclResourceTopic, ResourceName: "some", ResourcePatternType: sarama.AclPatternLiteral}
	acl := sarama.Acl{Principal: "User:alice", Host: "*", Operation: sarama.AclOperationRead, PermissionType: sarama.AclPermissionAllow}
	// sarama does not look at the single results here; the answer only has to be readable.
	_ = admin.CreateACL(resource, acl)
	_, err := admin.ListAcls(sarama.AclFilter{ResourceType: sarama.AclResourceAny, ResourcePatternTypeFilter: sarama.AclPatternAny, Operation: sarama.AclOperationAny, PermissionType: sarama.AclPermissionAny})
	t.Equal(err == nil || errors.Is(err, sarama.ErrSecurityDisabled), true, "whether listing ACLs is answered (%v)", err)
}

func saramaAdminSCRAM(t *T) {
	admin := saramaAdmin(t)
	user := fresh("s-user")
	done, err := admin.UpsertUserScramCredentials([]sarama.AlterUserScramCredentialsUpsert{{Name: user, Mechanism: sarama.SCRAM_MECHANISM_SHA_256, Iterations: 4096, Salt: []byte("salt"), Password: []byte("secret")}})
	t.NoError(err, "setting credentials")
	t.Equal(done[0].ErrorCode, sarama.ErrNoError, "setting credentials")
	t.Eventually(20*time.Second, "the credentials are told", func() bool {
		told, err := admin.DescribeUserScramCredentials([]string{user})
		return err == nil && len(told) == 1 && told[0].ErrorCode == sarama.ErrNoError && len(told[0].CredentialInfos) == 1 && told[0].CredentialInfos[0].Iterations == 4096
	})
	gone, err := admin.DeleteUserScramCredentials([]sarama.AlterUserScramCredentialsDelete{{Name: user, Mechanism: sarama.SCRAM_MECHANISM_SHA_256}})
	t.NoError(err, "deleting credentials")
	t.Equal(gone[0].ErrorCode, sarama.ErrNoError, "deleting credentials")
}

func transactional(id string) func(*sarama.Config) {
	return func(c *sarama.Config) {
		idempotent(c)
		c.Producer.Transaction.ID = id
		c.Producer.Transaction.Retry.Max = 50
		c.Producer.Transaction.Retry.Backoff = 50 * time.Millisecond
	}
}

func saramaTxn(t *T) {
	topic := newTopic(t, "s-txn", 2)
	producer := saramaProducer(t, transactional(fresh("s-txn-id")))
	defer producer.Close()
	transact := func(commit bool, values ...string) {
		t.NoError(producer.BeginTxn(), "beginning")
		for _, value := range values {
			_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)})
			t.NoError(err, "sending")
		}
		if commit {
			t.NoError(producer.CommitTxn(), "committing")
		} else {
			t.NoError(producer.AbortTxn(), "aborting")
		}
	}
	transact(true, "a1", "a2")
	transact(false, "b1", "b2")
	transact(true)
	transact(true, "c1")
	seen := func(isolation sarama.IsolationLevel, counts ...int) string {
		values := []string{}
		for partition, count := range counts {
			for _, m := range saramaRead(t, topic, int32(partition), 0, count, func(c *sarama.Config) { c.Consumer.IsolationLevel = isolation }) {
				values = append(values, string(m.Value))
			}
		}
		sort.Strings(values)
		return fmt.Sprint(values)
	}
	// How many records a partition holds, told by the records themselves.
	spread := func(values ...string) []int {
		counts := []int{0, 0}
		all := franzRead(t, topic, 5)
		for _, r := range all {
			if slices.Contains(values, string(r.Value)) {
				counts[r.Partition]++
			}
		}
		return counts
	}
	t.Equal(seen(sarama.ReadCommitted, spread("a1", "a2", "c1")...), "[a1 a2 c1]", "read committed")
	t.Equal(seen(sarama.ReadUncommitted, spread("a1", "a2", "b1", "b2", "c1")...), "[a1 a2 b1 b2 c1]", "read uncommitted")
}

func saramaTxnOffsets(t *T) {
	from, to, group := newTopic(t, "s-from", 1), newTopic(t, "s-to", 1), fresh("s-txn-group")
	send(t, from, 1, []string{"1", "2", "3"})
	producer := saramaProducer(t, transactional(fresh("s-offsets-id")))
	defer producer.Close()
	admin := saramaAdmin(t)
	committed := func() int64 {
		told, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{from: {0}})
		t.NoError(err, "offsets")
		return told.GetBlock(from, 0).Offset
	}
	for _, commit := range []bool{false, true} {
		t.NoError(producer.BeginTxn(), "beginning")
		for _, m := range saramaRead(t, from, 0, 0, 3) {
			_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: to, Value: sarama.ByteEncoder(m.Value)})
			t.NoError(err, "sending")
			t.NoError(producer.AddMessageToTxn(m, group, nil), "adding an offset")
		}
		if commit {
			t.NoError(producer.CommitTxn(), "committing")
			// Kafka answers before the markers are written.
			t.Eventually(20*time.Second, "the offset is committed", func() bool { return committed() == 3 })
		} else {
			t.NoError(producer.AbortTxn(), "aborting")
			t.Equal(committed(), -1, "committed offset of an aborted transaction")
		}
	}
	t.Equal(len(visible(t, to, kgo.ReadCommitted(), 3)), 3, "records that were committed")
}

func saramaTxnFencing(t *T) {
	topic, id := newTopic(t, "s-fence", 1), fresh("s-fence-id")
	first := saramaProducer(t, transactional(id))
	defer first.Close()
	t.NoError(first.BeginTxn(), "beginning")
	_, _, err := first.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("of the first")})
	t.NoError(err, "sending")
	second := saramaProducer(t, transactional(id))
	defer second.Close()
	t.NoError(second.BeginTxn(), "beginning")
	_, _, err = second.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("of the second")})
	t.NoError(err, "sending")
	err = first.CommitTxn()
	t.Equal(err != nil, true, "whether the first is fenced")
	t.NoError(second.CommitTxn(), "committing the second")
}
