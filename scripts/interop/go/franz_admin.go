package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

func init() {
	register("franz",
		check{name: "admin-topics", run: franzAdminTopics},
		check{name: "admin-configs", run: franzAdminConfigs},
		check{name: "admin-groups", run: franzAdminGroups},
		check{name: "admin-cluster", run: franzAdminCluster},
		check{name: "admin-replicas", run: franzAdminReplicas},
		check{name: "admin-acls", needs: []string{"DescribeACLs", "CreateACLs", "DeleteACLs"}, run: franzAdminACLs},
		check{name: "admin-scram", needs: []string{"DescribeUserSCRAMCredentials", "AlterUserSCRAMCredentials"}, run: franzAdminSCRAM},
		check{name: "admin-features", needs: []string{"UpdateFeatures"}, run: franzAdminFeatures},
		check{name: "admin-resources", needs: []string{"ListConfigResources"}, run: franzAdminResources},
	)
}

// want ends the check unless err is the error of Kafka's that is named.
func (t *T) want(err error, kafka error, what string) {
	if !errors.Is(err, kafka) {
		t.Failf("%s: expected %v, got %v", what, kafka, err)
	}
}

func franzAdminTopics(t *T) {
	admin := franzAdmin(t)
	topic := fresh("admin")
	validated, err := admin.ValidateCreateTopics(t.ctx, 3, 1, nil, topic)
	t.NoError(err, "validating")
	t.NoError(validated[topic].Err, "validating")
	listed, err := admin.ListTopics(t.ctx, topic)
	t.NoError(err, "listing")
	t.want(listed[topic].Err, kerr.UnknownTopicOrPartition, "a topic that was only validated")
	retention := "3600000"
	made, err := admin.CreateTopic(t.ctx, 3, -1, map[string]*string{"retention.ms": &retention}, topic)
	t.NoError(err, "creating")
	t.Equal(made.NumPartitions, 3, "partitions of the new topic")
	t.Equal(made.ReplicationFactor, 1, "replication factor of the new topic")
	t.Equal(*made.Configs["retention.ms"].Value, "3600000", "retention.ms of the new topic")
	_, err = admin.CreateTopic(t.ctx, 3, -1, nil, topic)
	t.want(err, kerr.TopicAlreadyExists, "creating a topic twice")
	_, err = admin.CreateTopic(t.ctx, 1, -1, nil, "no/slash")
	t.want(err, kerr.InvalidTopicException, "a topic with a slash in its name")
	_, err = admin.CreateTopic(t.ctx, 1, 3, nil, fresh("three"))
	t.want(err, kerr.InvalidReplicationFactor, "three replicas on one broker")
	_, err = admin.CreateTopic(t.ctx, 0, 1, nil, fresh("none"))
	t.want(err, kerr.InvalidPartitions, "no partition")
	odd := "lots"
	_, err = admin.CreateTopic(t.ctx, 1, 1, map[string]*string{"retention.ms": &odd}, fresh("odd"))
	t.want(err, kerr.InvalidConfig, "retention.ms=lots")
	more, err := admin.ValidateUpdatePartitions(t.ctx, 5, topic)
	t.NoError(err, "validating more partitions")
	t.NoError(more[topic].Err, "validating more partitions")
	more, err = admin.UpdatePartitions(t.ctx, 5, topic)
	t.NoError(err, "more partitions")
	t.NoError(more[topic].Err, "more partitions")
	t.Eventually(20*time.Second, "five partitions", func() bool {
		listed, err := admin.ListTopics(t.ctx, topic)
		return err == nil && len(listed[topic].Partitions) == 5
	})
	more, err = admin.UpdatePartitions(t.ctx, 5, topic)
	t.NoError(err, "the same number of partitions")
	t.want(more[topic].Err, kerr.InvalidPartitions, "the same number of partitions")
	deleted, err := admin.DeleteTopic(t.ctx, topic)
	t.NoError(err, "deleting")
	t.NoError(deleted.Err, "deleting")
	_, err = admin.DeleteTopic(t.ctx, topic)
	t.want(err, kerr.UnknownTopicOrPartition, "deleting a topic twice")
	again, err := admin.CreateTopic(t.ctx, 1, -1, nil, topic)
	t.NoError(err, "creating a topic anew")
	t.Equal(again.ID != made.ID, true, "whether the new topic has another id")
}

func franzAdminConfigs(t *T) {
	admin := franzAdmin(t)
	topic := newTopic(t, "configs", 1, "retention.ms=3600000")
	told := func(key string) string {
		described, err := admin.DescribeTopicConfigs(t.ctx, topic)
		t.NoError(err, "describing configs")
		t.NoError(described[0].Err, "describing configs")
		for _, config := range described[0].Configs {
			if config.Key == key {
				return fmt.Sprintf("%s from %s, %d synonyms", config.MaybeValue(), config.Source, len(config.Synonyms))
			}
		}
		return "none"
	}
	value := func(key string) func() string { return func() string { return told(key) } }
	policy := func() string { return strings.Split(told("cleanup.policy"), " ")[0] }
	t.Becomes(value("retention.ms"), "3600000 from DYNAMIC_TOPIC_CONFIG, 1 synonyms", "retention.ms")
	t.Becomes(value("cleanup.policy"), "delete from DEFAULT_CONFIG, 1 synonyms", "cleanup.policy")
	bytes, bad := "123456", "lots"
	alter := func(configs ...kadm.AlterConfig) error {
		told, err := admin.AlterTopicConfigs(t.ctx, configs, topic)
		t.NoError(err, "altering configs")
		return told[0].Err
	}
	t.NoError(alter(kadm.AlterConfig{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &bytes}, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "retention.ms"}), "setting one and deleting another")
	t.Becomes(value("max.message.bytes"), "123456 from DYNAMIC_TOPIC_CONFIG, 2 synonyms", "max.message.bytes")
	t.Equal(strings.Contains(told("retention.ms"), "DEFAULT_CONFIG"), true, "whether retention.ms is a default again")
	t.want(alter(kadm.AlterConfig{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &bad}), kerr.InvalidConfig, "max.message.bytes=lots")
	t.want(alter(kadm.AlterConfig{Op: kadm.SetConfig, Name: "no.such.config", Value: &bad}), kerr.InvalidConfig, "a config that does not exist")
	validated, err := admin.ValidateAlterTopicConfigs(t.ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &bytes}}, "no-such-topic")
	t.NoError(err, "validating")
	t.want(validated[0].Err, kerr.UnknownTopicOrPartition, "a topic that does not exist")
	compact := "compact"
	t.NoError(alter(kadm.AlterConfig{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: &compact}), "appending to cleanup.policy")
	t.Becomes(policy, "delete,compact", "cleanup.policy with compact")
	remove := "delete"
	t.NoError(alter(kadm.AlterConfig{Op: kadm.SubtractConfig, Name: "cleanup.policy", Value: &remove}), "subtracting from cleanup.policy")
	t.Becomes(policy, "compact", "cleanup.policy without delete")
	// The old call sets the whole state.
	state, err := admin.AlterTopicConfigsState(t.ctx, []kadm.AlterConfig{{Name: "max.message.bytes", Value: &bytes}}, topic)
	t.NoError(err, "AlterConfigs")
	t.NoError(state[0].Err, "AlterConfigs")
	t.Becomes(value("cleanup.policy"), "delete from DEFAULT_CONFIG, 1 synonyms", "cleanup.policy after the whole state was set")
	brokers, err := admin.ListBrokers(t.ctx)
	t.NoError(err, "listing brokers")
	configs, err := admin.DescribeBrokerConfigs(t.ctx, brokers.NodeIDs()...)
	t.NoError(err, "describing the broker's configs")
	t.NoError(configs[0].Err, "describing the broker's configs")
	names := []string{}
	for _, config := range configs[0].Configs {
		names = append(names, config.Key)
	}
	for _, name := range []string{"broker.id", "log.retention.ms", "num.partitions", "message.max.bytes", "auto.create.topics.enable"} {
		t.Equal(slices.Contains(names, name), true, "whether the broker tells %s", name)
	}
	if _, err := admin.DescribeBrokerConfigs(t.ctx); err != nil {
		t.Failf("describing the cluster-wide configs: %v", err)
	}
}

func franzAdminGroups(t *T) {
	admin := franzAdmin(t)
	topic, group := newTopic(t, "ga", 2), fresh("ga")
	var values []string
	for i := range 20 {
		values = append(values, fmt.Sprint(i))
	}
	send(t, topic, 2, values)
	m := openFranz(t, topic, group)
	handled := 0
	t.Eventually(30*time.Second, "the member has read and committed", func() bool {
		records := m.Poll()
		handled += len(records)
		return (len(records) == 0 || m.Commit()) && handled == 20
	})
	listed, err := admin.ListGroups(t.ctx)
	t.NoError(err, "listing groups")
	t.Equal(listed[group].ProtocolType+" "+listed[group].State, "consumer Stable", "the listed group")
	empty, err := admin.ListGroups(t.ctx, "Empty")
	t.NoError(err, "listing empty groups")
	t.Equal(slices.Contains(empty.Groups(), group), false, "whether a stable group is listed as empty")
	described, err := admin.DescribeGroups(t.ctx, group, "no-such-group-"+group)
	t.NoError(err, "describing groups")
	t.Equal(fmt.Sprint(described[group].State, " ", len(described[group].Members), " ", described[group].ProtocolType), "Stable 1 consumer", "the described group")
	one := described[group]
	assigned := one.AssignedPartitions()
	t.Equal(assigned.Lookup(topic, 0) && assigned.Lookup(topic, 1), true, "whether the assignment is told")
	missing := described["no-such-group-"+group]
	t.Equal(missing.State == "Dead" || errors.Is(missing.Err, kerr.GroupIDNotFound), true, "whether an unknown group is dead (%v, %v)", missing.State, missing.Err)
	lags, err := admin.Lag(t.ctx, group)
	t.NoError(err, "lag")
	t.Equal(lags[group].Lag.Total(), 0, "lag of the group")
	_, err = admin.DeleteGroup(t.ctx, group)
	t.want(err, kerr.NonEmptyGroup, "deleting a group with a member")
	m.Close()
	t.Eventually(20*time.Second, "the group is empty", func() bool {
		described, err := admin.DescribeGroups(t.ctx, group)
		return err == nil && described[group].State == "Empty"
	})
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: topic, Partition: 0, At: 3, LeaderEpoch: -1, Metadata: "half way"})
	offsets.AddOffset(topic, 1, 4, -1)
	t.NoError(admin.CommitAllOffsets(t.ctx, group, offsets), "altering offsets")
	told, err := admin.FetchOffsets(t.ctx, group)
	t.NoError(err, "fetching offsets")
	zero, _ := told.Lookup(topic, 0)
	other, _ := told.Lookup(topic, 1)
	t.Equal(fmt.Sprint(zero.At, zero.Metadata, other.At), "3half way4", "altered offsets")
	many := admin.FetchManyOffsets(t.ctx, group, "no-such-group-"+group)
	t.NoError(many[group].Err, "offsets of many groups")
	t.NoError(many["no-such-group-"+group].Err, "offsets of an unknown group")
	t.Equal(len(many["no-such-group-"+group].Fetched), 0, "offsets of an unknown group")
	var unknown kadm.Offsets
	unknown.AddOffset("no-such-topic-"+topic, 0, 4, -1)
	t.want(admin.CommitAllOffsets(t.ctx, group, unknown), kerr.UnknownTopicOrPartition, "committing for a topic that does not exist")
	var set kadm.TopicsSet
	set.Add(topic, 1)
	gone, err := admin.DeleteOffsets(t.ctx, group, set)
	t.NoError(err, "deleting an offset")
	t.NoError(gone.Error(), "deleting an offset")
	told, err = admin.FetchOffsets(t.ctx, group)
	t.NoError(err, "fetching offsets")
	_, is := told.Lookup(topic, 1)
	t.Equal(is, false, "whether a deleted offset is told")
	_, err = admin.DeleteGroup(t.ctx, group)
	t.NoError(err, "deleting the group")
	_, err = admin.DeleteGroup(t.ctx, group)
	t.want(err, kerr.GroupIDNotFound, "deleting a group twice")
	found := admin.FindGroupCoordinators(t.ctx, group, "another")
	t.NoError(found.Error(), "finding coordinators")
	t.Equal(len(found), 2, "coordinators found")
}

func franzAdminCluster(t *T) {
	admin := franzAdmin(t)
	meta, err := admin.BrokerMetadata(t.ctx)
	t.NoError(err, "metadata")
	t.Equal(meta.Cluster != "" && len(meta.Brokers) == 1 && meta.Controller >= 0, true, "whether cluster, broker and controller are told")
	topic := newTopic(t, "dirs", 1)
	send(t, topic, 1, []string{"something"})
	dirs, err := admin.DescribeAllLogDirs(t.ctx, nil)
	t.NoError(err, "log directories")
	sizes := int64(0)
	dirs.Each(func(d kadm.DescribedLogDir) {
		t.NoError(d.Err, "a log directory")
		if p, ok := d.Topics.Lookup(topic, 0); ok {
			sizes += p.Size
		}
	})
	t.Equal(sizes > 0, true, "whether the partition's size is told")
	var producers kadm.TopicsSet
	producers.Add(topic, 0)
	if told, err := admin.DescribeProducers(t.ctx, producers); err == nil {
		t.Equal(len(told[topic].Partitions[0].ActiveProducers), 1, "producers of the partition")
	} else if !strings.Contains(err.Error(), "unsupported") && !errors.Is(err, kerr.UnsupportedVersion) && !strings.Contains(err.Error(), "broker is too old") {
		t.Failf("describing producers: %v", err)
	}
}

func franzAdminReplicas(t *T) {
	admin := franzAdmin(t)
	topic := newTopic(t, "replicas", 2)
	brokers, err := admin.ListBrokers(t.ctx)
	t.NoError(err, "listing brokers")
	node := brokers.NodeIDs()[0]
	var set kadm.TopicsSet
	set.Add(topic, 0, 1)
	elected, err := admin.ElectLeaders(t.ctx, kadm.ElectPreferredReplica, set)
	t.NoError(err, "electing leaders")
	for _, p := range elected[topic] {
		t.want(p.Err, kerr.ElectionNotNeeded, "electing the leader that leads")
	}
	var none kadm.TopicsSet
	none.Add("no-such-topic-"+topic, 0)
	elected, err = admin.ElectLeaders(t.ctx, kadm.ElectLiveReplica, none)
	t.NoError(err, "electing leaders of nothing")
	t.want(elected["no-such-topic-"+topic][0].Err, kerr.UnknownTopicOrPartition, "electing a leader of a topic that does not exist")
	var assign kadm.AlterPartitionAssignmentsReq
	assign.Assign(topic, 0, []int32{node})
	moved, err := admin.AlterPartitionAssignments(t.ctx, assign)
	t.NoError(err, "reassigning to the same broker")
	t.NoError(moved[topic][0].Err, "reassigning to the same broker")
	var away kadm.AlterPartitionAssignmentsReq
	away.Assign(topic, 0, []int32{node + 77})
	moved, err = admin.AlterPartitionAssignments(t.ctx, away)
	t.NoError(err, "reassigning to a broker that does not exist")
	t.want(moved[topic][0].Err, kerr.InvalidReplicaAssignment, "reassigning to a broker that does not exist")
	var cancel kadm.AlterPartitionAssignmentsReq
	cancel.CancelAssign(topic, 0)
	moved, err = admin.AlterPartitionAssignments(t.ctx, cancel)
	t.NoError(err, "cancelling a reassignment")
	t.want(moved[topic][0].Err, kerr.NoReassignmentInProgress, "cancelling what is not under way")
	listed, err := admin.ListPartitionReassignments(t.ctx, set)
	t.NoError(err, "listing reassignments")
	t.Equal(len(listed[topic]), 0, "reassignments under way")
}

func franzAdminACLs(t *T) {
	admin := franzAdmin(t)
	b := func() *kadm.ACLBuilder {
		return kadm.NewACLs().Topics("some").Allow("User:alice").AllowHosts("*").Operations(kadm.OpRead).ResourcePatternType(kadm.ACLPatternLiteral)
	}
	made, err := admin.CreateACLs(t.ctx, b())
	t.NoError(err, "creating ACLs")
	t.want(made[0].Err, kerr.SecurityDisabled, "creating an ACL without an authorizer")
	told, err := admin.DescribeACLs(t.ctx, b())
	t.NoError(err, "describing ACLs")
	t.want(told[0].Err, kerr.SecurityDisabled, "describing ACLs without an authorizer")
	gone, err := admin.DeleteACLs(t.ctx, b())
	t.NoError(err, "deleting ACLs")
	t.want(gone[0].Err, kerr.SecurityDisabled, "deleting ACLs without an authorizer")
}

func franzAdminSCRAM(t *T) {
	admin := franzAdmin(t)
	user := fresh("user")
	altered, err := admin.AlterUserSCRAMs(t.ctx, nil, []kadm.UpsertSCRAM{{User: user, Mechanism: kadm.ScramSha256, Iterations: 4096, Password: "secret"}})
	t.NoError(err, "setting credentials")
	t.NoError(altered[user].Err, "setting credentials")
	describe := func() string {
		told, err := admin.DescribeUserSCRAMs(t.ctx, user)
		t.NoError(err, "describing credentials")
		if told[user].Err != nil {
			return told[user].Err.(*kerr.Error).Message
		}
		return fmt.Sprint(told[user].CredInfos)
	}
	t.Eventually(5*time.Second, "the credentials are told: "+describe(), func() bool { return describe() == "[SCRAM-SHA-256=iterations=4096]" })
	altered, err = admin.AlterUserSCRAMs(t.ctx, nil, []kadm.UpsertSCRAM{{User: user, Mechanism: kadm.ScramSha512, Iterations: 8192, Password: "secret"}})
	t.NoError(err, "setting the other mechanism")
	t.NoError(altered[user].Err, "setting the other mechanism")
	t.Eventually(20*time.Second, "both credentials are told", func() bool { return strings.Count(describe(), "SHA") == 2 })
	weak, err := admin.AlterUserSCRAMs(t.ctx, nil, []kadm.UpsertSCRAM{{User: user, Mechanism: kadm.ScramSha256, Iterations: 4095, Salt: []byte("salt"), SaltedPassword: []byte("salted")}})
	t.NoError(err, "too few iterations")
	t.want(weak[user].Err, kerr.UnacceptableCredential, "too few iterations")
	for _, mechanism := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
		gone, err := admin.AlterUserSCRAMs(t.ctx, []kadm.DeleteSCRAM{{User: user, Mechanism: mechanism}}, nil)
		t.NoError(err, "deleting credentials")
		t.NoError(gone[user].Err, "deleting credentials")
	}
	t.Eventually(20*time.Second, "the credentials are gone", func() bool { return describe() == "RESOURCE_NOT_FOUND" })
	gone, err := admin.AlterUserSCRAMs(t.ctx, []kadm.DeleteSCRAM{{User: user, Mechanism: kadm.ScramSha256}}, nil)
	t.NoError(err, "deleting credentials twice")
	t.want(gone[user].Err, kerr.ResourceNotFound, "deleting credentials twice")
}

func franzAdminFeatures(t *T) {
	admin := franzAdmin(t)
	told, err := admin.UpdateFeatures(t.ctx, true, kadm.FeatureUpdate{Feature: "no.such.feature", MaxVersionLevel: 1, UpgradeType: 1})
	if err == nil {
		for _, f := range told {
			err = f.Err
		}
	}
	t.Equal(err != nil, true, "whether an unknown feature is refused")
	versions, err := admin.ApiVersions(t.ctx)
	t.NoError(err, "ApiVersions")
	for _, v := range versions {
		t.NoError(v.Err, "ApiVersions")
	}
}

func franzAdminResources(t *T) {
	admin := franzAdmin(t)
	topic := newTopic(t, "resources", 1)
	told, err := admin.ListConfigResources(t.ctx)
	t.NoError(err, "listing config resources")
	found := false
	for _, r := range told.Resources {
		found = found || r.Name == topic
	}
	t.Equal(found, true, "whether the topic is among the config resources")
}
