// kafkajs: produce, consume, groups, transactions, admin.

import kafkajs from 'kafkajs'
import snappy from 'kafkajs-snappy'
import { API, check, checkGroup, equal, eventually, fresh, main, refused, sleep } from './common.mjs'

const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, logLevel } = kafkajs
CompressionCodecs[CompressionTypes.Snappy] = snappy

const kafka = (address) => new Kafka({ clientId: 'interop', brokers: [address], logLevel: logLevel.NOTHING })

/** Runs with a connected client (admin or producer), and disconnects it. */
async function using(client, call) {
  await client.connect()
  try {
    return await call(client)
  } finally {
    await client.disconnect()
  }
}

async function newTopic(address, stem, numPartitions = 1, configEntries = []) {
  const topic = fresh(stem)
  await using(kafka(address).admin(), async (admin) => {
    await admin.createTopics({ waitForLeaders: false, topics: [{ topic, numPartitions, configEntries }] })
    // Kafka answers before its broker knows, which this client takes for an error if it is to wait itself.
    await eventually(20_000, 'the topic is there', async () => {
      try {
        return (await admin.fetchTopicOffsets(topic)).length === numPartitions
      } catch {
        return false
      }
    })
  })
  return topic
}

/** Sends value i to partition i % partitions, each once. */
const send = (address, topic, partitions, values) =>
  using(kafka(address).producer({ idempotent: true, maxInFlightRequests: 1 }), (producer) => producer.send({
    topic, messages: values.map((value, i) => ({ value, partition: i % partitions })) }))

/** Reads count records from the beginning. */
async function read(address, topic, count, options = {}) {
  const consumer = kafka(address).consumer({ groupId: fresh('reader'), maxWaitTimeInMs: 200, ...options })
  await consumer.connect()
  const messages = []
  try {
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await consumer.run({ eachMessage: async ({ partition, message }) => void messages.push({ partition, ...message }) })
    await eventually(40_000, `${count} records of ${topic}`, () => messages.length >= count)
    await sleep(300)
  } finally {
    await consumer.disconnect()
  }
  return messages.sort((a, b) => a.partition - b.partition || Number(a.offset) - Number(b.offset))
}

async function roundTrip(address) {
  const topic = await newTopic(address, 'trip')
  const base = Date.now()
  const sent = Array.from({ length: 50 }, (_, i) => ({
    key: i % 3 ? `key-${i}` : null, value: i === 7 ? null : `value-${i}`, timestamp: String(base + i),
    headers: { h: [Buffer.from([0, 255]), 'again'], one: 'x' } }))
  await using(kafka(address).producer({ idempotent: true, maxInFlightRequests: 1 }), (p) => p.send({ topic, messages: sent }))
  const got = await read(address, topic, 50)
  got.forEach((message, i) => {
    equal(message.offset, String(i), 'offset')
    equal(message.key?.toString() ?? null, sent[i].key, `key of record ${i}`)
    equal(message.value?.toString() ?? null, sent[i].value, `value of record ${i}`)
    equal(message.timestamp, sent[i].timestamp, `timestamp of record ${i}`)
    equal(message.headers.h.map((h) => Buffer.from(h).toString('hex')), ['00ff', '616761696e'], `headers of record ${i}`)
  })
}

async function compressions(address) {
  for (const compression of [CompressionTypes.None, CompressionTypes.GZIP, CompressionTypes.Snappy]) {
    const topic = await newTopic(address, 'codec')
    const values = Array.from({ length: 500 }, (_, i) => `${i} `.repeat((i % 40) + 1))
    await using(kafka(address).producer(), (p) => p.send({ topic, compression, messages: values.map((value) => ({ value })) }))
    equal((await read(address, topic, 500)).map((m) => m.value.toString()), values, `codec ${compression}`)
  }
}

async function acks(address) {
  const topic = await newTopic(address, 'acks')
  for (const acks of [0, 1, -1]) {
    await using(kafka(address).producer(), (p) => p.send({ topic, acks, messages: [{ value: String(acks) }] }))
  }
  equal((await read(address, topic, 3)).map((m) => m.value.toString()).sort(), ['-1', '0', '1'], 'values with each acks')
}

async function group(address) {
  const topic = await newTopic(address, 'group-topic', 4)
  const groupId = fresh('group')
  await checkGroup(async (handle) => {
    const consumer = kafka(address).consumer({ groupId, sessionTimeout: 10_000, heartbeatInterval: 300, maxWaitTimeInMs: 200,
      metadataMaxAge: 2000 })
    let assigned = []
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => { assigned = payload.memberAssignment[topic] ?? [] })
    consumer.on(consumer.events.REBALANCING, () => { assigned = [] })
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await consumer.run({ autoCommit: true, autoCommitThreshold: 1, eachMessage: async ({ partition, message }) =>
      handle(partition, message.offset, message.value.toString()) })
    return { assigned: () => assigned, leave: () => consumer.disconnect() }
  }, (values) => send(address, topic, 4, values))
}

async function adminTopics(address) {
  await using(kafka(address).admin(), async (admin) => {
    const topic = fresh('admin')
    const config = { topics: [{ topic, numPartitions: 3, configEntries: [{ name: 'retention.ms', value: '3600000' }] }] }
    equal(await admin.createTopics({ ...config, validateOnly: true, waitForLeaders: false }), true, 'validating a topic')
    check(!(await admin.listTopics()).includes(topic), 'a topic that was only validated is there')
    equal(await admin.createTopics(config), true, 'creating a topic')
    equal(await admin.createTopics(config), false, 'creating a topic twice')
    await refused('a topic with a slash', () => admin.createTopics({ topics: [{ topic: 'no/slash' }] }))
    check((await admin.listTopics()).includes(topic), 'the topic is not listed')
    await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
    await eventually(20_000, 'five partitions', async () =>
      (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length === 5)
    const value = async (name) => {
      const told = await admin.describeConfigs({ includeSynonyms: true, resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }] })
      return told.resources[0].configEntries.find((entry) => entry.configName === name)?.configValue
    }
    equal(await value('retention.ms'), '3600000', 'retention.ms')
    await admin.alterConfigs({ validateOnly: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: topic,
      configEntries: [{ name: 'max.message.bytes', value: '123456' }] }] })
    await eventually(20_000, 'the new configs', async () =>
      (await value('max.message.bytes')) === '123456' && (await value('retention.ms')) === '604800000')
    await refused('max.message.bytes=lots', () => admin.alterConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic,
      configEntries: [{ name: 'max.message.bytes', value: 'lots' }] }] }))
    const cluster = await admin.describeCluster()
    equal([cluster.brokers.length, cluster.controller !== null, Boolean(cluster.clusterId)], [1, true, true], 'the cluster')
    await admin.alterPartitionReassignments({ topics: [{ topic, partitionAssignment: [{ partition: 0, replicas: [cluster.controller] }] }] })
    equal((await admin.listPartitionReassignments({ topics: [{ topic, partitions: [0] }] })).topics, [], 'reassignments')
    await admin.deleteTopics({ topics: [topic] })
    await eventually(20_000, 'the topic is gone', async () => !(await admin.listTopics()).includes(topic))
  })
}

async function adminOffsets(address) {
  const topic = await newTopic(address, 'offsets')
  const base = Date.now() - 100_000
  const messages = Array.from({ length: 10 }, (_, i) => ({ value: String(i), timestamp: String(base + 1000 * i) }))
  await using(kafka(address).producer(), (p) => p.send({ topic, messages }))
  const groupId = fresh('offsets')
  await using(kafka(address).admin(), async (admin) => {
    equal(await admin.fetchTopicOffsets(topic), [{ partition: 0, offset: '10', high: '10', low: '0' }], 'offsets of the topic')
    equal((await admin.fetchTopicOffsetsByTimestamp(topic, base + 4500))[0].offset, '5', 'offset at a time')
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '4' }] })
    equal((await admin.fetchTopicOffsets(topic))[0].low, '4', 'first offset after deleting records')
    await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '7' }] })
    const committed = async () => (await admin.fetchOffsets({ groupId, topics: [topic] }))[0].partitions[0].offset
    equal(await committed(), '7', 'the offset that was set')
    await admin.resetOffsets({ groupId, topic, earliest: true })
    check(['4', '-2'].includes(await committed()), `the offset that was reset is ${await committed()}`)
    check((await admin.listGroups()).groups.some((g) => g.groupId === groupId), 'the group is not listed')
    const described = await admin.describeGroups([groupId])
    equal([described.groups[0].state, described.groups[0].members.length], ['Empty', 0], 'the group')
    equal((await admin.deleteGroups([groupId])).map((r) => r.errorCode ?? 0), [0], 'deleting the group')
    await refused('deleting a group twice', () => admin.deleteGroups([groupId]))
  })
}

async function adminAcls(address) {
  await using(kafka(address).admin(), async (admin) => {
    const acl = { resourceType: 2, resourceName: 'some', resourcePatternType: 3, principal: 'User:alice', host: '*', operation: 3, permissionType: 3 }
    for (const call of [() => admin.createAcls({ acl: [acl] }), () => admin.describeAcls(acl), () => admin.deleteAcls({ filters: [acl] })]) {
      const error = await refused('an ACL call without an authorizer', call)
      equal(error.type ?? error.errors?.[0]?.type, 'SECURITY_DISABLED', 'the error of an ACL call')
    }
  })
}

async function transactions(address) {
  const topic = await newTopic(address, 'txn', 2)
  const groupId = fresh('txn-group')
  const producer = kafka(address).producer({ transactionalId: fresh('txn-id'), maxInFlightRequests: 1, idempotent: true })
  await using(producer, async () => {
    const transact = async (commit, ...values) => {
      const txn = await producer.transaction()
      await txn.send({ topic, messages: values.map((value, i) => ({ value, partition: i % 2 })) })
      await txn.sendOffsets({ consumerGroupId: groupId, topics: [{ topic, partitions: [{ partition: 0, offset: commit ? '1' : '99' }] }] })
      await (commit ? txn.commit() : txn.abort())
    }
    await transact(true, 'a1', 'a2')
    await transact(false, 'b1', 'b2')
    await transact(true, 'c1')
  })
  const values = (messages) => messages.map((m) => m.value.toString()).sort()
  equal(values(await read(address, topic, 3)), ['a1', 'a2', 'c1'], 'read committed')
  equal(values(await read(address, topic, 5, { readUncommitted: true })), ['a1', 'a2', 'b1', 'b2', 'c1'], 'read uncommitted')
  await using(kafka(address).admin(), async (admin) =>
    equal((await admin.fetchOffsets({ groupId, topics: [topic] }))[0].partitions.find((p) => p.partition === 0).offset, '1', 'the offset of the transactions'))
}

async function fencing(address) {
  const topic = await newTopic(address, 'fence')
  const transactionalId = fresh('fence-id')
  const open = () => kafka(address).producer({ transactionalId, maxInFlightRequests: 1, idempotent: true, retry: { retries: 2 } })
  const [first, second] = [open(), open()]
  await first.connect()
  const zombie = await first.transaction()
  await zombie.send({ topic, messages: [{ value: 'of the first' }] })
  await second.connect()
  const txn = await second.transaction()
  await txn.send({ topic, messages: [{ value: 'of the second' }] })
  await refused('the zombie', async () => {
    await zombie.send({ topic, messages: [{ value: 'of the zombie' }] })
    await zombie.commit()
  })
  await txn.commit()
  equal((await read(address, topic, 1)).map((m) => m.value.toString()), ['of the second'], 'read committed')
  await Promise.allSettled([first.disconnect(), second.disconnect()])
}

await main([
  ['round-trip', roundTrip],
  ['compressions', compressions],
  ['acks', acks],
  ['group', group],
  ['admin-topics', adminTopics],
  ['admin-offsets', adminOffsets],
  ['admin-acls', adminAcls, [API.createAcls]],
  ['transactions', transactions, [API.addPartitionsToTxn]],
  ['fencing', fencing, [API.addPartitionsToTxn]],
])
