"""kafka-python (3.x) beyond the smoke test: transactions, exactly once, static members, its whole admin client."""

import time

from interop import (ADD_PARTITIONS_TO_TXN, CREATE_ACLS, DESCRIBE_PRODUCERS, DESCRIBE_QUORUM, LIST_TRANSACTIONS, SCRAM,
                     UPDATE_FEATURES, check, check_exactly_once, equal, eventually, fresh, main, refused)
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as Errors
from kafka.admin import (ACL, ACLFilter, ACLOperation, ACLPermissionType, ACLResourcePatternType, ConfigResource,
                         ConfigResourceType, KafkaAdminClient, NewPartitions, NewTopic, ResourcePattern,
                         ResourcePatternFilter, ResourceType)
from kafka.structs import OffsetAndMetadata

from common import check_group

SECONDS = 30


def admin(options):
    return KafkaAdminClient(bootstrap_servers=options.bootstrap)


def make_topic(options, stem, partitions=1):
    topic, client = fresh(stem), admin(options)
    client.create_topics([NewTopic(topic, partitions, 1)])
    client.wait_for_topics([topic])
    client.close()
    return topic


def send_all(options, topic, values, partitions=1, **config):
    sender = KafkaProducer(bootstrap_servers=options.bootstrap, linger_ms=5, **config)
    for future in [sender.send(topic, value, partition=i % partitions) for i, value in enumerate(values)]:
        future.get(timeout=SECONDS)
    sender.close()


def read_all(options, topic, isolation="read_committed"):
    consumer = KafkaConsumer(bootstrap_servers=options.bootstrap, isolation_level=isolation, auto_offset_reset="earliest",
                             enable_auto_commit=False, fetch_max_wait_ms=50)
    partitions = [TopicPartition(topic, p) for p in eventually(SECONDS, topic, lambda: consumer.partitions_for_topic(topic))]
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    ends, values = consumer.end_offsets(partitions), []

    def read():
        for records in consumer.poll(timeout_ms=200).values():
            values.extend(record.value for record in records)
        return all(consumer.position(tp) >= ends[tp] for tp in partitions)

    eventually(SECONDS, f"{topic} is read to {ends}", read)
    consumer.close()
    return values


def check_transactions(options):
    topic, group = make_topic(options, "kp-txn", 2), fresh("kp-txn-group")
    producer = KafkaProducer(bootstrap_servers=options.bootstrap, transactional_id=fresh("kp-txn-id"))
    producer.init_transactions()

    def transact(commit, offset, *values):
        producer.begin_transaction()
        for value in values:
            producer.send(topic, value).get(timeout=SECONDS)
        producer.send_offsets_to_transaction({TopicPartition(topic, 0): OffsetAndMetadata(offset, "", -1)}, group)
        producer.commit_transaction() if commit else producer.abort_transaction()

    transact(True, 11, b"a1", b"a2")
    transact(False, 99, b"b1", b"b2")
    transact(True, 12, b"c1")
    producer.close()
    equal(sorted(read_all(options, topic)), [b"a1", b"a2", b"c1"], "read committed")
    equal(sorted(read_all(options, topic, "read_uncommitted")), [b"a1", b"a2", b"b1", b"b2", b"c1"], "read uncommitted")
    client = admin(options)
    told = client.list_group_offsets({group: None})[group]
    equal(told[TopicPartition(topic, 0)].offset, 12, "the offset of the transactions")
    client.close()


def check_fencing(options):
    topic, name = make_topic(options, "kp-fence"), fresh("kp-fence-id")

    def open_one(value):
        producer = KafkaProducer(bootstrap_servers=options.bootstrap, transactional_id=name)
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(topic, value).get(timeout=SECONDS)
        return producer

    first = open_one(b"of the first")
    second = open_one(b"of the second")
    error = refused(first.commit_transaction)
    check(isinstance(error, (Errors.ProducerFencedError, Errors.InvalidProducerEpochError)), f"the zombie is told {error!r}")
    second.commit_transaction()
    second.close()
    first.close(timeout=5)
    equal(read_all(options, topic), [b"of the second"], "read committed")


def exactly_once(options):
    check_exactly_once(options, "kafka-python", lambda topic, values: send_all(options, topic, values, 4),
                       lambda topic: read_all(options, topic), lambda stem, n: make_topic(options, stem, n), count=2000, kills=2)


class Member:
    """A static member as check_group wants it."""

    def __init__(self, options, topic, group, **more):
        self.consumer = KafkaConsumer(
            topic, bootstrap_servers=options.bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
            session_timeout_ms=10000, heartbeat_interval_ms=300, **more)

    def poll(self):
        batches = self.consumer.poll(timeout_ms=200)
        return [(tp.partition, r.offset, r.value) for tp, records in batches.items() for r in records]

    def commit(self):
        try:
            self.consumer.commit()
            return True
        except (Errors.CommitFailedError, Errors.RebalanceInProgressError, Errors.IllegalGenerationError, Errors.UnknownMemberIdError):
            return False

    def assigned(self):
        return {tp.partition for tp in self.consumer.assignment()}

    def close(self):
        self.consumer.close()


def check_groups(options):
    from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
    topic, group = make_topic(options, "kp-sticky-topic", 4), fresh("kp-sticky")
    check_group(lambda: Member(options, topic, group, partition_assignment_strategy=[StickyPartitionAssignor]),
                lambda values: send_all(options, topic, values, 4))


def check_static_members(options):
    topic, group, client = make_topic(options, "kp-static-topic", 2), fresh("kp-static"), admin(options)
    member = Member(options, topic, group, group_instance_id="one")
    eventually(SECONDS, "the member has both partitions", lambda: member.poll() or member.assigned() == {0, 1})
    before = client.describe_groups([group])[group]
    equal([m["group_instance_id"] for m in before["members"]], ["one"], "the group's member")
    member.close()
    after = client.describe_groups([group])[group]
    equal(len(after["members"]), 1, "members when the static one has gone away")
    client.remove_group_members(group, members_of(after))
    eventually(SECONDS, "the group is empty", lambda: client.describe_groups([group])[group]["group_state"] == "Empty")
    client.close()


def members_of(described):
    from kafka.admin import MemberToRemove
    return [MemberToRemove(group_instance_id=m["group_instance_id"]) for m in described["members"]]


def check_topics(options):
    client, topic = admin(options), fresh("kp-topics")
    client.create_topics([NewTopic(topic, 2, 1)], validate_only=True)
    check(topic not in client.list_topics(), "a topic that was only validated is there")
    client.create_topics([NewTopic(topic, 2, 1)])
    client.wait_for_topics([topic])
    check(isinstance(refused(client.create_topics, [NewTopic(topic, 2, 1)]), Errors.TopicAlreadyExistsError), "creating a topic twice")
    client.create_partitions({topic: NewPartitions(4)})
    eventually(SECONDS, "four partitions", lambda: len(client.describe_topics([topic])[0]["partitions"]) == 4)
    told = client.describe_topic_partitions([topic], response_partition_limit=3)
    check("next_cursor" in repr(told) or told, f"describe_topic_partitions tells {told}")
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={"retention.ms": "12345"})
    client.alter_configs([resource])

    def retention():
        return repr(client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))

    eventually(SECONDS, "the altered config", lambda: "12345" in retention())
    client.reset_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs={"retention.ms": None})])
    eventually(SECONDS, "the config is reset", lambda: "12345" not in retention())
    cluster = client.describe_cluster()
    check(cluster["cluster_id"] and len(cluster["brokers"]) == 1, f"describe_cluster tells {cluster}")
    check(client.describe_log_dirs(), "describe_log_dirs tells nothing")
    check(topic in repr(client.list_config_resources()), "the topic is not among the config resources")
    equal(client.list_partition_reassignments(), {}, "reassignments")
    client.elect_leaders(0, [TopicPartition(topic, 0)], raise_errors=False)
    client.delete_topics([topic])
    eventually(SECONDS, "the topic is gone", lambda: topic not in client.list_topics())
    client.close()


def check_offsets(options):
    client, topic, group = admin(options), make_topic(options, "kp-offsets", 1), fresh("kp-offsets")
    send_all(options, topic, [b"%d" % i for i in range(10)])
    partition = TopicPartition(topic, 0)
    told = client.delete_records({partition: 4})
    equal(told[partition]["low_watermark"], 4, "first offset after deleting up to 4")
    client.alter_group_offsets(group, {partition: OffsetAndMetadata(7, "half way", -1)})
    told = client.list_group_offsets({group: None})[group][partition]
    equal((told.offset, told.metadata), (7, "half way"), "the altered offset")
    client.delete_group_offsets(group, [partition])
    check(partition not in client.list_group_offsets({group: None})[group], "a deleted offset is told")
    client.alter_group_offsets(group, {partition: OffsetAndMetadata(7, "", -1)})
    check(group in repr(client.list_groups()), "the group is not listed")
    check(group in repr(client.list_groups(states_filter=["Empty"])), "the group is not among the empty ones")
    check(group not in repr(client.list_groups(states_filter=["Stable"])), "the group is among the stable ones")
    client.delete_groups([group])
    check(group not in repr(client.list_groups()), "a deleted group is listed")
    client.close()


def check_transactions_admin(options):
    client, topic, name = admin(options), make_topic(options, "kp-lt", 1), fresh("kp-lt-id")
    producer = KafkaProducer(bootstrap_servers=options.bootstrap, transactional_id=name)
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(topic, b"open").get(timeout=SECONDS)
    check(name in repr(client.list_transactions()), "list_transactions does not tell it")
    check("Ongoing" in repr(client.describe_transactions([name])), "describe_transactions does not say Ongoing")
    check("producer_id" in repr(client.describe_producers([TopicPartition(topic, 0)])), "describe_producers tells nothing")
    client.find_hanging_transactions()
    producer.commit_transaction()
    producer.close()
    eventually(SECONDS, "it is complete", lambda: "CompleteCommit" in repr(client.describe_transactions([name])))
    client.close()


def check_acls(options):
    client = admin(options)
    acl = ACL("User:alice", "*", ACLOperation.READ, ACLPermissionType.ALLOW, ResourcePattern(ResourceType.TOPIC, "some"))
    any_acl = ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ANY,
                        ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY))
    for what, call, argument in (("create", client.create_acls, [acl]), ("describe", client.describe_acls, any_acl), ("delete", client.delete_acls, [any_acl])):
        try:
            told = repr(call(argument))
        except Errors.KafkaError as error:
            told = repr(error)
        check("SecurityDisabled" in told, f"{what} ACLs without an authorizer: {told}")
    client.close()


def check_scram(options):
    from kafka.admin import ScramMechanism, UserScramCredentialDeletion, UserScramCredentialUpsertion
    client, user = admin(options), fresh("kp-user")
    client.alter_user_scram_credentials([UserScramCredentialUpsertion(user, ScramMechanism.SCRAM_SHA_256, "secret", iterations=4096)])

    def told():
        try:
            return repr(client.describe_user_scram_credentials([user]))
        except Errors.KafkaError as error:
            return repr(error)

    eventually(SECONDS, "the credentials are told", lambda: "4096" in told())
    client.alter_user_scram_credentials([UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_256)])
    eventually(SECONDS, "the credentials are gone", lambda: "4096" not in told())
    client.close()


def check_quorum_and_features(options):
    client = admin(options)
    check("metadata.version" in repr(client.describe_features()), "describe_features tells no metadata.version")
    check("voters" in repr(client.describe_metadata_quorum()).lower(), "describe_metadata_quorum tells no voters")
    client.close()


if __name__ == "__main__":
    main(__doc__, {
        "transactions": (check_transactions, ADD_PARTITIONS_TO_TXN),
        "fencing": (check_fencing, ADD_PARTITIONS_TO_TXN),
        "exactly-once": (exactly_once, ADD_PARTITIONS_TO_TXN),
        "groups": check_groups,
        "static-members": check_static_members,
        "topics": check_topics,
        "offsets": check_offsets,
        "transactions-admin": (check_transactions_admin, LIST_TRANSACTIONS, DESCRIBE_PRODUCERS, ADD_PARTITIONS_TO_TXN),
        "acls": (check_acls, CREATE_ACLS),
        "scram": (check_scram, SCRAM),
        "quorum-and-features": (check_quorum_and_features, DESCRIBE_QUORUM, UPDATE_FEATURES),
    })
