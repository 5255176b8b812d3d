package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
)

func init() {
	register("kafka-go",
		check{name: "round-trip", run: kafkaGoRoundTrip},
		check{name: "compressions", run: kafkaGoCompressions},
		check{name: "acks", run: kafkaGoAcks},
		check{name: "offsets", run: kafkaGoOffsets},
		check{name: "group-range", run: func(t *T) { kafkaGoGroup(t, kafka.RangeGroupBalancer{}) }},
		check{name: "group-round-robin", run: func(t *T) { kafkaGoGroup(t, kafka.RoundRobinGroupBalancer{}) }},
		check{name: "admin-topics", run: kafkaGoAdminTopics},
		check{name: "admin-groups", run: kafkaGoAdminGroups},
		check{name: "admin-acls", needs: []string{"DescribeACLs", "CreateACLs", "DeleteACLs"}, run: kafkaGoAdminACLs},
		check{name: "txn", needs: txnAPIs, run: kafkaGoTxn},
	)
}

func kafkaGoClient(t *T) *kafka.Client {
	return &kafka.Client{Addr: kafka.TCP(t.addr), Timeout: 20 * time.Second, Transport: &kafka.Transport{}}
}

func kafkaGoWriter(t *T, topic string) *kafka.Writer {
	return &kafka.Writer{Addr: kafka.TCP(t.addr), Topic: topic, BatchTimeout: 5 * time.Millisecond, RequiredAcks: kafka.RequireAll, Transport: &kafka.Transport{}}
}

func kafkaGoRead(t *T, topic string, count int) []kafka.Message {
	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{t.addr}, Topic: topic, Partition: 0, MaxWait: 200 * time.Millisecond})
	defer reader.Close()
	ctx, cancel := context.WithTimeout(t.ctx, 30*time.Second)
	defer cancel()
	var messages []kafka.Message
	for len(messages) < count {
		m, err := reader.ReadMessage(ctx)
		t.NoError(err, "reading %s, with %d of %d records", topic, len(messages), count)
		messages = append(messages, m)
	}
	return messages
}

func kafkaGoRoundTrip(t *T) {
	topic := newTopic(t, "k-trip", 1)
	headers := []kafka.Header{{Key: "h", Value: []byte{0, 255}}, {Key: "h", Value: []byte("again")}}
	base := time.Now().Truncate(time.Millisecond)
	var sent []kafka.Message
	for i := range 50 {
		m := kafka.Message{Value: fmt.Appendf(nil, "value-%d", i), Headers: headers, Time: base.Add(time.Duration(i) * time.Millisecond)}
		if i%3 > 0 {
			m.Key = fmt.Appendf(nil, "key-%d", i)
		}
		if i == 7 {
			m.Value = nil
		}
		sent = append(sent, m)
	}
	writer := kafkaGoWriter(t, topic)
	t.NoError(writer.WriteMessages(t.ctx, sent...), "writing")
	t.NoError(writer.Close(), "closing")
	for i, m := range kafkaGoRead(t, topic, 50) {
		t.Equal(m.Offset, i, "offset")
		t.Equal(string(m.Key), string(sent[i].Key), "key of record %d", i)
		t.Equal(string(m.Value), string(sent[i].Value), "value of record %d", i)
		t.Equal(fmt.Sprintf("%q", m.Headers), fmt.Sprintf("%q", headers), "headers of record %d", i)
		t.Equal(m.Time.UnixMilli(), sent[i].Time.UnixMilli(), "time of record %d", i)
	}
}

func kafkaGoCompressions(t *T) {
	for _, codec := range []kafka.Compression{0, kafka.Gzip, kafka.Snappy, kafka.Lz4, kafka.Zstd} {
		topic := newTopic(t, "k-codec", 1)
		writer := kafkaGoWriter(t, topic)
		writer.Compression = codec
		var sent []kafka.Message
		for i := range 1000 {
			sent = append(sent, kafka.Message{Value: []byte(strings.Repeat(fmt.Sprintf("%06d ", i), i%40+1))})
		}
		t.NoError(writer.WriteMessages(t.ctx, sent...), "codec %d: writing", codec)
		t.NoError(writer.Close(), "closing")
		for i, m := range kafkaGoRead(t, topic, 1000) {
			t.Equal(m.Offset, i, "codec %d: offset", codec)
			t.Equal(string(m.Value), string(sent[i].Value), "codec %d: record %d", codec, i)
		}
	}
}

func kafkaGoAcks(t *T) {
	topic := newTopic(t, "k-acks", 1)
	for _, acks := range []kafka.RequiredAcks{kafka.RequireNone, kafka.RequireOne, kafka.RequireAll} {
		writer := kafkaGoWriter(t, topic)
		writer.RequiredAcks = acks
		t.NoError(writer.WriteMessages(t.ctx, kafka.Message{Value: []byte("one")}), "writing with acks %d", acks)
		t.NoError(writer.Close(), "closing")
	}
	kafkaGoRead(t, topic, 3)
}

func kafkaGoOffsets(t *T) {
	topic := newTopic(t, "k-offsets", 1)
	base := time.Now().Add(-100 * time.Second).Truncate(time.Millisecond)
	writer := kafkaGoWriter(t, topic)
	for i := range 10 {
		t.NoError(writer.WriteMessages(t.ctx, kafka.Message{Value: fmt.Appendf(nil, "%d", i), Time: base.Add(time.Duration(i) * time.Second)}), "writing")
	}
	t.NoError(writer.Close(), "closing")
	client := kafkaGoClient(t)
	told, err := client.ListOffsets(t.ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{
		topic: {kafka.FirstOffsetOf(0), kafka.LastOffsetOf(0), kafka.TimeOffsetOf(0, base.Add(4500*time.Millisecond))},
	}})
	t.NoError(err, "listing offsets")
	p := told.Topics[topic][0]
	t.NoError(p.Error, "listing offsets")
	t.Equal(fmt.Sprint(p.FirstOffset, p.LastOffset, len(p.Offsets)), "0 10 1", "first and last offset")
	for offset := range p.Offsets {
		t.Equal(offset, 5, "first record after a time")
	}
	conn, err := kafka.DialLeader(t.ctx, "tcp", t.addr, topic, 0)
	t.NoError(err, "dialling the leader")
	defer conn.Close()
	first, last, err := conn.ReadOffsets()
	t.NoError(err, "reading offsets")
	t.Equal(fmt.Sprint(first, last), "0 10", "offsets of a connection")
	_, err = conn.Seek(7, kafka.SeekAbsolute)
	t.NoError(err, "seeking")
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	m, err := conn.ReadMessage(1 << 20)
	t.NoError(err, "reading")
	t.Equal(m.Offset, 7, "first record after a seek")
	fetched, err := client.Fetch(t.ctx, &kafka.FetchRequest{Topic: topic, Partition: 0, Offset: 8, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Second})
	t.NoError(err, "fetching")
	t.NoError(fetched.Error, "fetching")
	count := 0
	for {
		r, err := fetched.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			break
		}
		t.NoError(err, "reading records")
		if r.Offset >= 8 {
			count++
		}
	}
	t.Equal(count, 2, "records from 8 on")
	out, err := client.Fetch(t.ctx, &kafka.FetchRequest{Topic: topic, Partition: 0, Offset: 99, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Second})
	t.NoError(err, "fetching beyond the end")
	t.Equal(errors.Is(out.Error, kafka.OffsetOutOfRange), true, "whether an offset beyond the end is out of range (%v)", out.Error)
}

// kafkaGoMember is a reader in a group.
type kafkaGoMember struct {
	reader *kafka.Reader
	last   []kafka.Message
	client *kafka.Client
	group  string
	id     string
}

func openKafkaGo(t *T, topic, group, id string, balancer kafka.GroupBalancer) *kafkaGoMember {
	dialer := &kafka.Dialer{ClientID: id, Timeout: 10 * time.Second}
	return &kafkaGoMember{group: group, id: id, client: kafkaGoClient(t), reader: kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{t.addr}, GroupID: group, Topic: topic, Dialer: dialer, MaxWait: 200 * time.Millisecond,
		GroupBalancers: []kafka.GroupBalancer{balancer}, SessionTimeout: 10 * time.Second, HeartbeatInterval: 300 * time.Millisecond,
		JoinGroupBackoff: 200 * time.Millisecond, StartOffset: kafka.FirstOffset})}
}

func (m *kafkaGoMember) Poll() []record {
	var records []record
	m.last = nil
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	for len(records) < 100 {
		message, err := m.reader.FetchMessage(ctx)
		if err != nil {
			break
		}
		m.last = append(m.last, message)
		records = append(records, record{partition: int32(message.Partition), offset: message.Offset, value: string(message.Value)})
	}
	return records
}

// Commit: after a rebalance kafka-go commits with the new generation whatever the record came with, so a refusal tells
// little, and nothing counts as committed.
func (m *kafkaGoMember) Commit() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = m.reader.CommitMessages(ctx, m.last...)
	return false
}

// Assigned asks the server, as the reader does not tell.
func (m *kafkaGoMember) Assigned() []int32 {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	told, err := m.client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{m.group}})
	if err != nil || len(told.Groups) != 1 || told.Groups[0].GroupState != "Stable" {
		return nil
	}
	var list []int32
	for _, member := range told.Groups[0].Members {
		if member.ClientID == m.id {
			for _, topic := range member.MemberAssignments.Topics {
				for _, p := range topic.Partitions {
					list = append(list, int32(p))
				}
			}
		}
	}
	return list
}

func (m *kafkaGoMember) Close() { m.reader.Close() }

func kafkaGoGroup(t *T, balancer kafka.GroupBalancer) {
	topic, group := newTopic(t, "k-group-topic", 4), fresh("k-group")
	checkGroup(t, func() member { return openKafkaGo(t, topic, group, fresh("k-id"), balancer) },
		func(values []string) { send(t, topic, 4, values) })
}

func kafkaGoAdminTopics(t *T) {
	client, topic := kafkaGoClient(t), fresh("k-admin")
	made, err := client.CreateTopics(t.ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{
		{Topic: topic, NumPartitions: 3, ReplicationFactor: 1, ConfigEntries: []kafka.ConfigEntry{{ConfigName: "retention.ms", ConfigValue: "3600000"}}},
		{Topic: "no/slash", NumPartitions: 3, ReplicationFactor: 1}}})
	t.NoError(err, "creating topics")
	t.NoError(made.Errors[topic], "creating a topic")
	t.Equal(errors.Is(made.Errors["no/slash"], kafka.InvalidTopic), true, "whether a slash is refused (%v)", made.Errors["no/slash"])
	partitions := func() int {
		meta, err := client.Metadata(t.ctx, &kafka.MetadataRequest{Topics: []string{topic}})
		t.NoError(err, "metadata")
		return len(meta.Topics[0].Partitions)
	}
	t.Eventually(10*time.Second, "three partitions", func() bool { return partitions() == 3 })
	more, err := client.CreatePartitions(t.ctx, &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: 5}}})
	t.NoError(err, "more partitions")
	t.NoError(more.Errors[topic], "more partitions")
	t.Eventually(10*time.Second, "five partitions", func() bool { return partitions() == 5 })
	resource := []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{"retention.ms", "max.message.bytes"}}}
	value := func(name string) string {
		told, err := client.DescribeConfigs(t.ctx, &kafka.DescribeConfigsRequest{Resources: resource})
		t.NoError(err, "describing configs")
		t.NoError(told.Resources[0].Error, "describing configs")
		for _, config := range told.Resources[0].ConfigEntries {
			if config.ConfigName == name {
				return config.ConfigValue
			}
		}
		return ""
	}
	t.Equal(value("retention.ms"), "3600000", "retention.ms")
	altered, err := client.IncrementalAlterConfigs(t.ctx, &kafka.IncrementalAlterConfigsRequest{Resources: []kafka.IncrementalAlterConfigsRequestResource{{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: topic,
		Configs: []kafka.IncrementalAlterConfigsRequestConfig{{Name: "max.message.bytes", Value: "123456", ConfigOperation: kafka.ConfigOperationSet}}}}})
	t.NoError(err, "altering configs")
	t.NoError(altered.Resources[0].Error, "altering configs")
	t.Eventually(10*time.Second, "max.message.bytes is changed", func() bool { return value("max.message.bytes") == "123456" })
	old, err := client.AlterConfigs(t.ctx, &kafka.AlterConfigsRequest{Resources: []kafka.AlterConfigRequestResource{{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, Configs: []kafka.AlterConfigRequestConfig{{Name: "retention.ms", Value: "1000"}}}}})
	t.NoError(err, "altering configs the old way")
	for _, err := range old.Errors {
		t.NoError(err, "altering configs the old way")
	}
	t.Eventually(10*time.Second, "max.message.bytes is taken back", func() bool { return value("max.message.bytes") == "1048588" })
	versions, err := client.ApiVersions(t.ctx, &kafka.ApiVersionsRequest{})
	t.NoError(err, "ApiVersions")
	t.NoError(versions.Error, "ApiVersions")
	elected, err := client.ElectLeaders(t.ctx, &kafka.ElectLeadersRequest{Topic: topic, Partitions: []int{0}, Timeout: 5 * time.Second})
	t.NoError(err, "electing leaders")
	t.Equal(errors.Is(elected.PartitionResults[0].Error, kafka.ElectionNotNeeded), true, "whether no election is needed (%v)", elected.PartitionResults[0].Error)
	deleted, err := client.DeleteTopics(t.ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	t.NoError(err, "deleting")
	t.NoError(deleted.Errors[topic], "deleting")
	deleted, err = client.DeleteTopics(t.ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	t.NoError(err, "deleting twice")
	t.Equal(errors.Is(deleted.Errors[topic], kafka.UnknownTopicOrPartition), true, "whether a topic cannot be deleted twice (%v)", deleted.Errors[topic])
}

func kafkaGoAdminGroups(t *T) {
	client := kafkaGoClient(t)
	topic, group := newTopic(t, "k-ga", 2), fresh("k-ga")
	send(t, topic, 2, []string{"a", "b", "c", "d"})
	m := openKafkaGo(t, topic, group, fresh("k-ga-id"), kafka.RangeGroupBalancer{})
	read := 0
	t.Eventually(30*time.Second, "the member has read everything", func() bool {
		read += len(m.Poll())
		m.Commit()
		return read >= 4
	})
	listed, err := client.ListGroups(t.ctx, &kafka.ListGroupsRequest{})
	t.NoError(err, "listing groups")
	names := []string{}
	for _, g := range listed.Groups {
		names = append(names, g.GroupID)
	}
	t.Equal(slices.Contains(names, group), true, "whether the group is listed")
	offsets, err := client.OffsetFetch(t.ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: {0, 1}}})
	t.NoError(err, "fetching offsets")
	committed := []int64{}
	for _, p := range offsets.Topics[topic] {
		committed = append(committed, p.CommittedOffset)
	}
	slices.Sort(committed)
	t.Equal(committed, "[2 2]", "committed offsets")
	refused, err := client.DeleteGroups(t.ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{group}})
	t.NoError(err, "deleting a group with a member")
	t.Equal(errors.Is(refused.Errors[group], kafka.NonEmptyGroup), true, "whether a group with a member cannot be deleted (%v)", refused.Errors[group])
	m.Close()
	t.Eventually(20*time.Second, "the group can be deleted when the member is gone", func() bool {
		gone, err := client.DeleteGroups(t.ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{group}})
		return err == nil && gone.Errors[group] == nil
	})
}

func kafkaGoAdminACLs(t *T) {
	client := kafkaGoClient(t)
	told, err := client.DescribeACLs(t.ctx, &kafka.DescribeACLsRequest{Filter: kafka.ACLFilter{ResourceTypeFilter: kafka.ResourceTypeTopic,
		ResourcePatternTypeFilter: kafka.PatternTypeAny, Operation: kafka.ACLOperationTypeAny, PermissionType: kafka.ACLPermissionTypeAny}})
	t.NoError(err, "describing ACLs")
	t.Equal(errors.Is(told.Error, kafka.SecurityDisabled), true, "whether security is disabled (%v)", told.Error)
	made, err := client.CreateACLs(t.ctx, &kafka.CreateACLsRequest{ACLs: []kafka.ACLEntry{{ResourceType: kafka.ResourceTypeTopic, ResourceName: "some",
		ResourcePatternType: kafka.PatternTypeLiteral, Principal: "User:alice", Host: "*", Operation: kafka.ACLOperationTypeRead, PermissionType: kafka.ACLPermissionTypeAllow}}})
	t.NoError(err, "creating ACLs")
	t.Equal(errors.Is(made.Errors[0], kafka.SecurityDisabled), true, "whether security is disabled (%v)", made.Errors[0])
}

// kafkaGoTxn uses the calls themselves: kafka-go has no transactional writer.
func kafkaGoTxn(t *T) {
	client := kafkaGoClient(t)
	topic, group, id := newTopic(t, "k-txn", 1), fresh("k-txn-group"), fresh("k-txn-id")
	var producer *kafka.ProducerSession
	t.Eventually(20*time.Second, "a producer id", func() bool {
		told, err := client.InitProducerID(t.ctx, &kafka.InitProducerIDRequest{TransactionalID: id, TransactionTimeoutMs: 30000})
		if err != nil || told.Error != nil {
			return false
		}
		producer = told.Producer
		return true
	})
	added, err := client.AddPartitionsToTxn(t.ctx, &kafka.AddPartitionsToTxnRequest{TransactionalID: id, ProducerID: producer.ProducerID, ProducerEpoch: producer.ProducerEpoch,
		Topics: map[string][]kafka.AddPartitionToTxn{topic: {{Partition: 0}}}})
	t.NoError(err, "adding a partition")
	t.NoError(added.Topics[topic][0].Error, "adding a partition")
	offsets, err := client.AddOffsetsToTxn(t.ctx, &kafka.AddOffsetsToTxnRequest{TransactionalID: id, ProducerID: producer.ProducerID, ProducerEpoch: producer.ProducerEpoch, GroupID: group})
	t.NoError(err, "adding offsets")
	t.NoError(offsets.Error, "adding offsets")
	committed, err := client.TxnOffsetCommit(t.ctx, &kafka.TxnOffsetCommitRequest{TransactionalID: id, GroupID: group, ProducerID: producer.ProducerID, ProducerEpoch: producer.ProducerEpoch,
		GenerationID: -1, Topics: map[string][]kafka.TxnOffsetCommit{topic: {{Partition: 0, Offset: 42}}}})
	t.NoError(err, "committing an offset")
	t.NoError(committed.Topics[topic][0].Error, "committing an offset")
	ended, err := client.EndTxn(t.ctx, &kafka.EndTxnRequest{TransactionalID: id, ProducerID: producer.ProducerID, ProducerEpoch: producer.ProducerEpoch, Committed: true})
	t.NoError(err, "ending the transaction")
	t.NoError(ended.Error, "ending the transaction")
	t.Eventually(20*time.Second, "the offset is committed", func() bool {
		told, err := client.OffsetFetch(t.ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: {0}}})
		return err == nil && len(told.Topics[topic]) == 1 && told.Topics[topic][0].CommittedOffset == 42
	})
	old, err := client.EndTxn(t.ctx, &kafka.EndTxnRequest{TransactionalID: id, ProducerID: producer.ProducerID, ProducerEpoch: producer.ProducerEpoch + 7, Committed: true})
	t.NoError(err, "ending with a wrong epoch")
	t.Equal(errors.Is(old.Error, kafka.InvalidProducerEpoch) || errors.Is(old.Error, kafka.ProducerFenced), true, "whether a wrong epoch is refused (%v)", old.Error)
}
