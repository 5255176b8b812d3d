"""confluent-kafka beyond the smoke test: transactions, exactly once, the new group protocol, all admin calls."""

import time

from confluent_kafka import (Consumer, ConsumerGroupState, ConsumerGroupTopicPartitions, ConsumerGroupType, ElectionType,
                             IsolationLevel, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition)
from confluent_kafka.admin import (AclBinding, AclBindingFilter, AclOperation, AclPermissionType, AdminClient,
                                   AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec,
                                   ResourcePatternType, ResourceType, ScramCredentialInfo, ScramMechanism,
                                   UserScramCredentialDeletion, UserScramCredentialUpsertion)
from interop import (ADD_PARTITIONS_TO_TXN, CONSUMER_GROUP_HEARTBEAT, CREATE_ACLS, SCRAM, check, check_exactly_once, equal,
                     eventually, fresh, main, refused, settled)

from common import check_group

SECONDS = 30


def admin(options):
    return AdminClient({"bootstrap.servers": options.bootstrap})


def make_topic(options, stem, partitions=1, **config):
    topic = fresh(stem)
    client = admin(options)
    settled(client.create_topics([NewTopic(topic, partitions, 1, config=config)]))
    eventually(SECONDS, f"{topic} is listed", lambda: topic in client.list_topics(timeout=SECONDS).topics)
    return topic


def send_all(options, topic, values, partitions=1, **config):
    """Sends value i to partition i % partitions and waits for all acknowledgements."""
    sender = Producer({"bootstrap.servers": options.bootstrap, "linger.ms": 5, "log_level": 2, **config})
    errors = []
    for i, value in enumerate(values):
        sender.produce(topic, value, partition=i % partitions, on_delivery=lambda error, _: error and errors.append(error))
    equal(sender.flush(SECONDS), 0, "records left without an answer")
    equal(errors, [], "errors of sending")


def read_all(options, topic, isolation="read_committed"):
    """Every value that can be read now, up to the end that the isolation level shows."""
    reader = Consumer({"bootstrap.servers": options.bootstrap, "group.id": fresh("reader"), "enable.auto.commit": False,
                       "isolation.level": isolation, "enable.partition.eof": True, "check.crcs": True, "log_level": 2,
                       "fetch.wait.max.ms": 20})
    partitions = list(reader.list_topics(topic, timeout=SECONDS).topics[topic].partitions)
    reader.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    values, ended, until = [], set(), time.monotonic() + SECONDS
    while len(ended) < len(partitions):
        check(time.monotonic() < until, f"{topic} cannot be read to its end: {len(values)} records, {ended} at their end")
        for message in reader.consume(1000, timeout=0.3):
            if message.error() is None:
                values.append(message.value())
            elif message.error().code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                raise KafkaException(message.error())
    reader.close()
    return values


def transactional(options, name, **config):
    producer = Producer({"bootstrap.servers": options.bootstrap, "transactional.id": name, "log_level": 2, **config})
    producer.init_transactions(SECONDS)
    return producer


def check_transactions(options):
    topic = make_topic(options, "cf-txn", 2)
    producer = transactional(options, fresh("cf-txn-id"))

    def transact(commit, *values):
        producer.begin_transaction()
        for value in values:
            producer.produce(topic, value)
        producer.commit_transaction(SECONDS) if commit else (producer.flush(SECONDS), producer.abort_transaction(SECONDS))

    transact(True, b"a1", b"a2")
    transact(False, b"b1", b"b2")
    transact(True)
    transact(True, b"c1")
    equal(sorted(read_all(options, topic)), [b"a1", b"a2", b"c1"], "read committed")
    equal(sorted(read_all(options, topic, "read_uncommitted")), [b"a1", b"a2", b"b1", b"b2", b"c1"], "read uncommitted")
    producer.begin_transaction()
    producer.produce(topic, b"open", partition=0)
    producer.flush(SECONDS)
    client = admin(options)
    partition = TopicPartition(topic, 0)

    def end(level):
        told = settled(client.list_offsets({partition: OffsetSpec.latest()}, isolation_level=level))
        return told[partition].offset

    equal(end(IsolationLevel.READ_UNCOMMITTED) - end(IsolationLevel.READ_COMMITTED), 1, "records behind the stable offset")
    check(b"open" not in read_all(options, topic), "a record of an open transaction is visible")
    producer.commit_transaction(SECONDS)
    eventually(SECONDS, "the transaction's record is visible", lambda: b"open" in read_all(options, topic))


def check_fencing(options):
    topic, name = make_topic(options, "cf-fence"), fresh("cf-fence-id")
    first = transactional(options, name)
    first.begin_transaction()
    first.produce(topic, b"of the first")
    first.flush(SECONDS)
    second = transactional(options, name)
    second.begin_transaction()
    second.produce(topic, b"of the second")
    error = refused(first.commit_transaction, SECONDS).args[0]
    check(error.fatal() and error.code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH),
          f"the zombie is told {error}")
    second.commit_transaction(SECONDS)
    equal(read_all(options, topic), [b"of the second"], "read committed")


def check_transaction_timeout(options):
    topic = make_topic(options, "cf-timeout")
    producer = transactional(options, fresh("cf-timeout-id"), **{"transaction.timeout.ms": 1500, "message.timeout.ms": 1500})
    producer.begin_transaction()
    producer.produce(topic, b"too late")
    producer.flush(SECONDS)
    send_all(options, topic, [b"behind it"])
    eventually(60, "the transaction is aborted and readers go on", lambda: read_all(options, topic) == [b"behind it"])
    refused(producer.commit_transaction, SECONDS)


def exactly_once(options, *more, kills=3):
    check_exactly_once(options, "confluent", lambda topic, values: send_all(options, topic, values, 4),
                       lambda topic: read_all(options, topic), lambda stem, n: make_topic(options, stem, n), *more, kills=kills)


class Member:
    """A consumer of the new group protocol as check_group wants it."""

    def __init__(self, options, topic, group, **config):
        self.consumer = Consumer({"bootstrap.servers": options.bootstrap, "group.id": group, "auto.offset.reset": "earliest",
                                  "enable.auto.commit": False, "group.protocol": "consumer", "log_level": 2, **config})
        self.consumer.subscribe([topic])

    def poll(self):
        messages = [m for m in self.consumer.consume(100, timeout=0.2) if m.error() is None]
        return [(m.partition(), m.offset(), m.value()) for m in messages]

    def commit(self):
        try:
            self.consumer.commit(asynchronous=False)
            return True
        except KafkaException as error:
            # While the group moves a commit may be refused; the records come again.
            code = error.args[0].code()
            check(code in (KafkaError.STALE_MEMBER_EPOCH, KafkaError._NO_OFFSET, KafkaError.UNKNOWN_MEMBER_ID,
                           KafkaError.FENCED_MEMBER_EPOCH, KafkaError.ILLEGAL_GENERATION), f"commit: {error}")
            return False

    def assigned(self):
        return {tp.partition for tp in self.consumer.assignment()}

    def close(self):
        self.consumer.close()


def check_new_groups(options):
    topic, group = make_topic(options, "cf-848-topic", 4), fresh("cf-848")
    check_group(lambda: Member(options, topic, group), lambda values: send_all(options, topic, values, 4))


def check_new_group_range(options):
    topic, group = make_topic(options, "cf-848r-topic", 4), fresh("cf-848r")
    check_group(lambda: Member(options, topic, group, **{"group.remote.assignor": "range"}),
                lambda values: send_all(options, topic, values, 4))


def check_new_group_regex(options):
    stem = fresh("cf-848x")
    client = admin(options)
    settled(client.create_topics([NewTopic(f"{stem}-a", 1, 1), NewTopic(f"{stem}-b", 1, 1), NewTopic(f"x-{stem}", 1, 1)]))
    for topic in (f"{stem}-a", f"{stem}-b", f"x-{stem}"):
        send_all(options, topic, [topic.encode()])
    member = Member(options, f"^{stem}-.*", fresh("cf-848x-group"))
    got = set()

    def read():
        got.update(value for _, _, value in member.poll())
        return got >= {f"{stem}-a".encode(), f"{stem}-b".encode()}

    eventually(60, "records of the topics that match", read)
    check(f"x-{stem}".encode() not in got, "a topic that does not match is read")
    member.close()


def check_new_group_admin(options):
    topic, group, client = make_topic(options, "cf-848a-topic", 2), fresh("cf-848a"), admin(options)
    send_all(options, topic, [b"1", b"2"], 2)
    member = Member(options, topic, group, **{"group.instance.id": "one"})
    eventually(SECONDS, "the member has its partitions", lambda: member.poll() or member.assigned() == {0, 1})
    eventually(SECONDS, "everything is committed", lambda: (member.poll(), member.commit())[1] and all(
        tp.offset == 1 for tp in member.consumer.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=10)))
    listed = client.list_consumer_groups(types={ConsumerGroupType.CONSUMER}).result(timeout=SECONDS)
    mine = [g for g in listed.valid if g.group_id == group]
    equal([(g.state, g.type) for g in mine], [(ConsumerGroupState.STABLE, ConsumerGroupType.CONSUMER)], "the listed group")
    told = settled(client.describe_consumer_groups([group], include_authorized_operations=True))[group]
    equal((told.state, told.type, len(told.members), told.members[0].group_instance_id),
          (ConsumerGroupState.STABLE, ConsumerGroupType.CONSUMER, 1, "one"), "the described group")
    equal(sorted(tp.partition for tp in told.members[0].assignment.topic_partitions), [0, 1], "the described assignment")
    error = refused(lambda: settled(client.delete_consumer_groups([group]))).args[0]
    equal(error.code(), KafkaError.NON_EMPTY_GROUP, "deleting a group with a member")
    member.close()


def check_acls(options):
    client = admin(options)
    acl = AclBinding(ResourceType.TOPIC, "some", ResourcePatternType.LITERAL, "User:alice", "*", AclOperation.READ,
                     AclPermissionType.ALLOW)
    any_acl = AclBindingFilter(ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY,
                               AclPermissionType.ANY)
    for what, call in {"creating": lambda: settled(client.create_acls([acl])), "deleting": lambda: settled(client.delete_acls([any_acl]))}.items():
        equal(refused(call).args[0].code(), KafkaError.SECURITY_DISABLED, f"{what} ACLs without an authorizer")
    # librdkafka takes the same answer to this call for "none".
    equal(client.describe_acls(any_acl).result(timeout=SECONDS), [], "ACLs without an authorizer")


def check_scram(options):
    client, user = admin(options), fresh("cf-user")
    settled(client.alter_user_scram_credentials([
        UserScramCredentialUpsertion(user, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 8192), b"secret")]))

    def told():
        try:
            infos = settled(client.describe_user_scram_credentials([user]))[user].scram_credential_infos
            return [(info.mechanism, info.iterations) for info in infos]
        except KafkaException as error:
            return error.args[0].code()

    eventually(SECONDS, "the credentials are told", lambda: told() == [(ScramMechanism.SCRAM_SHA_256, 8192)])
    check(user in client.describe_user_scram_credentials().result(timeout=SECONDS), "the user is not among all users")
    settled(client.alter_user_scram_credentials([UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_256)]))
    eventually(SECONDS, "the credentials are gone", lambda: told() == KafkaError.RESOURCE_NOT_FOUND)
    error = refused(lambda: settled(client.alter_user_scram_credentials([
        UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_256)]))).args[0]
    equal(error.code(), KafkaError.RESOURCE_NOT_FOUND, "deleting credentials twice")
    error = refused(lambda: settled(client.alter_user_scram_credentials([
        UserScramCredentialUpsertion(user, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 100), b"secret")]))).args[0]
    equal(error.code(), KafkaError.UNACCEPTABLE_CREDENTIAL, "too few iterations")


def check_incremental_configs(options):
    client, topic = admin(options), make_topic(options, "cf-incremental")

    def alter(name, value, operation, **more):
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[ConfigEntry(name, value, incremental_operation=operation)])
        settled(client.incremental_alter_configs([resource], **more))

    def value(name):
        resource = ConfigResource(ResourceType.TOPIC, topic)
        return settled(client.describe_configs([resource]))[resource][name].value

    alter("cleanup.policy", "compact", AlterConfigOpType.APPEND)
    eventually(SECONDS, "compact is appended", lambda: value("cleanup.policy") == "delete,compact")
    alter("cleanup.policy", "delete", AlterConfigOpType.SUBTRACT)
    eventually(SECONDS, "delete is taken away", lambda: value("cleanup.policy") == "compact")
    alter("retention.ms", "5000", AlterConfigOpType.SET, validate_only=True)
    equal(value("retention.ms"), "604800000", "a config that was only validated")
    error = refused(alter, "retention.ms", "1", AlterConfigOpType.APPEND).args[0]
    equal(error.code(), KafkaError.INVALID_CONFIG, "appending to a number")
    broker = ConfigResource(ResourceType.BROKER, str(client.describe_cluster().result(timeout=SECONDS).nodes[0].id))
    entries = settled(client.describe_configs([broker]))[broker]
    check(len(entries) > 30 and entries["log.retention.hours"].value, "the broker's configs")


def check_group_calls(options):
    client, topic, group = admin(options), make_topic(options, "cf-calls", 2), fresh("cf-calls")
    offsets = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 5), TopicPartition(topic, 1, 6)])
    settled(client.alter_consumer_group_offsets([offsets]))
    told = settled(client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 1)])]))
    equal([tp.offset for tp in told[group].topic_partitions], [6], "one committed offset")
    told = settled(client.describe_consumer_groups([group]))[group]
    equal((told.state, told.members), (ConsumerGroupState.EMPTY, []), "a group without members")
    listed = client.list_consumer_groups(states={ConsumerGroupState.EMPTY}).result(timeout=SECONDS)
    check(group in [g.group_id for g in listed.valid], "the empty group is not listed among the empty ones")
    listed = client.list_consumer_groups(states={ConsumerGroupState.STABLE}).result(timeout=SECONDS)
    check(group not in [g.group_id for g in listed.valid], "the empty group is listed among the stable ones")
    missing = ConsumerGroupTopicPartitions(group, [TopicPartition("no-such-topic-" + topic, 0, 5)])
    told = settled(client.alter_consumer_group_offsets([missing]))[group]
    equal(told.topic_partitions[0].error.code(), KafkaError.UNKNOWN_TOPIC_OR_PART, "committing for a topic that does not exist")
    settled(client.delete_consumer_groups([group]))
    error = refused(lambda: settled(client.delete_consumer_groups([group]))).args[0]
    equal(error.code(), KafkaError.GROUP_ID_NOT_FOUND, "deleting a group twice")


def check_topic_calls(options):
    client, topic = admin(options), make_topic(options, "cf-topic", 3)
    settled(client.create_topics([NewTopic(fresh("cf-dry"), 1, 1)], validate_only=True))
    error = refused(lambda: settled(client.create_topics([NewTopic(fresh("cf-rf"), 1, 3)]))).args[0]
    equal(error.code(), KafkaError.INVALID_REPLICATION_FACTOR, "three replicas on one broker")
    node = client.describe_cluster(include_authorized_operations=True).result(timeout=SECONDS)
    check(node.authorized_operations and node.controller and node.cluster_id, "the described cluster")
    settled(client.create_topics([NewTopic(fresh("cf-manual"), 2, replica_assignment=[[node.nodes[0].id], [node.nodes[0].id]])]))
    told = settled(client.describe_topics(TopicCollection([topic]), include_authorized_operations=True))[topic]
    equal((len(told.partitions), told.is_internal), (3, False), "the described topic")
    check(told.authorized_operations, "operations that are allowed on the topic")
    error = refused(lambda: settled(client.describe_topics(TopicCollection(["no-such-" + topic])))).args[0]
    equal(error.code(), KafkaError.UNKNOWN_TOPIC_OR_PART, "describing a topic that does not exist")
    settled(client.create_partitions([NewPartitions(topic, 4)], validate_only=True))
    error = refused(lambda: settled(client.create_partitions([NewPartitions(topic, 2)]))).args[0]
    equal(error.code(), KafkaError.INVALID_PARTITIONS, "fewer partitions")
    elected = client.elect_leaders(ElectionType.PREFERRED, [TopicPartition(topic, 0)]).result(timeout=SECONDS)
    equal([e.code() for e in elected.values()], [KafkaError.ELECTION_NOT_NEEDED], "electing the leader that leads")
    error = refused(lambda: settled(client.delete_records([TopicPartition(topic, 0, 5)]))).args[0]
    equal(error.code(), KafkaError.OFFSET_OUT_OF_RANGE, "deleting records beyond the end")


if __name__ == "__main__":
    main(__doc__, {
        "transactions": (check_transactions, ADD_PARTITIONS_TO_TXN),
        "fencing": (check_fencing, ADD_PARTITIONS_TO_TXN),
        "transaction-timeout": (check_transaction_timeout, ADD_PARTITIONS_TO_TXN),
        "exactly-once": (exactly_once, ADD_PARTITIONS_TO_TXN),
        "exactly-once-848": (lambda options: exactly_once(options, "--group-protocol", "consumer", kills=1),
                             ADD_PARTITIONS_TO_TXN, CONSUMER_GROUP_HEARTBEAT),
        "new-groups": (check_new_groups, CONSUMER_GROUP_HEARTBEAT),
        "new-group-range": (check_new_group_range, CONSUMER_GROUP_HEARTBEAT),
        "new-group-regex": (check_new_group_regex, CONSUMER_GROUP_HEARTBEAT),
        "new-group-admin": (check_new_group_admin, CONSUMER_GROUP_HEARTBEAT),
        "acls": (check_acls, CREATE_ACLS),
        "scram": (check_scram, SCRAM),
        "incremental-configs": check_incremental_configs,
        "group-calls": check_group_calls,
        "topic-calls": check_topic_calls,
    })
