// @confluentinc/kafka-javascript (librdkafka below): produce, consume, classic and new groups, transactions, admin.

import confluent from '@confluentinc/kafka-javascript'
import { API, check, checkGroup, equal, eventually, fresh, main, refused, sleep } from './common.mjs'

const { KafkaJS } = confluent
const { Kafka, CompressionTypes, ErrorCodes, IsolationLevel, ConsumerGroupStates } = KafkaJS

const kafka = (address) => new Kafka({ kafkaJS: { brokers: [address], logLevel: KafkaJS.logLevel.NOTHING } })

async function using(client, call) {
  await client.connect()
  try {
    return await call(client)
  } finally {
    await client.disconnect()
  }
}

const admin = (address, call) => using(kafka(address).admin(), call)

async function newTopic(address, stem, numPartitions = 1, configEntries = []) {
  const topic = fresh(stem)
  await admin(address, async (client) => {
    equal(await client.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1, configEntries }] }), true, 'creating a topic')
    await eventually(20_000, `${topic} is listed`, async () => (await client.listTopics()).includes(topic))
  })
  return topic
}

const send = (address, topic, partitions, values, kafkaJS = {}) =>
  using(kafka(address).producer({ kafkaJS, 'linger.ms': 5 }), (producer) => producer.send({
    topic, messages: values.map((value, i) => ({ value, partition: i % partitions })) }))

/** Reads count records from the beginning, and whatever else comes in a moment. */
async function read(address, topic, count, options = {}) {
  const consumer = kafka(address).consumer({ kafkaJS: { groupId: fresh('reader'), fromBeginning: true, autoCommit: false },
    'fetch.wait.max.ms': 50, ...options })
  await consumer.connect()
  const messages = []
  try {
    await consumer.subscribe({ topics: [topic] })
    await consumer.run({ eachMessage: async ({ partition, message }) => void messages.push({ partition, ...message }) })
    await eventually(40_000, `${count} records of ${topic}`, () => messages.length >= count)
    await sleep(300)
  } finally {
    await consumer.disconnect()
  }
  return messages.sort((a, b) => a.partition - b.partition || Number(a.offset) - Number(b.offset))
}

async function roundTrip(address) {
  const topic = await newTopic(address, 'c-trip')
  const base = Date.now()
  const make = (i) => ({ key: i % 3 ? `key-${i}` : null, value: i === 7 ? null : `value-${i}`, timestamp: String(base + i),
    headers: { one: Buffer.from([0, 255]) } })
  // The producer changes the messages that it is given.
  const sent = Array.from({ length: 50 }, (_, i) => make(i))
  await using(kafka(address).producer({ kafkaJS: { idempotent: true } }),
    (p) => p.send({ topic, messages: sent.map((_, i) => make(i)) }))
  const got = await read(address, topic, 50)
  got.forEach((message, i) => {
    equal(message.offset, String(i), 'offset')
    equal(message.key?.toString() ?? null, sent[i].key, `key of record ${i}`)
    equal(message.value?.toString() ?? null, sent[i].value, `value of record ${i}`)
    equal(message.timestamp, sent[i].timestamp, `timestamp of record ${i}`)
    equal(Buffer.from([message.headers.one].flat()[0]).toString('hex'), '00ff', `header of record ${i}`)
  })
}

async function compressions(address) {
  for (const compression of ['none', 'gzip', 'snappy', 'lz4', 'zstd']) {
    const topic = await newTopic(address, `c-${compression}`)
    const values = Array.from({ length: 500 }, (_, i) => `${i} `.repeat((i % 40) + 1))
    await send(address, topic, 1, values, { compression: CompressionTypes[compression.toUpperCase()] ?? compression })
    equal((await read(address, topic, 500)).map((m) => m.value.toString()), values, compression)
  }
}

async function acks(address) {
  const topic = await newTopic(address, 'c-acks')
  for (const acks of [0, 1, -1]) await send(address, topic, 1, [String(acks)], { acks })
  equal((await read(address, topic, 3)).map((m) => m.value.toString()).sort(), ['-1', '0', '1'], 'values with each acks')
}

const group = (config) => async (address) => {
  const topic = await newTopic(address, 'c-group-topic', 4)
  const groupId = fresh('c-group')
  await checkGroup(async (handle) => {
    const consumer = kafka(address).consumer({ kafkaJS: { groupId, fromBeginning: true, autoCommit: false }, 'fetch.wait.max.ms': 50,
      ...config })
    await consumer.connect()
    await consumer.subscribe({ topics: [topic] })
    await consumer.run({ eachMessage: async ({ partition, message }) => {
      handle(partition, message.offset, message.value.toString())
      try {
        await consumer.commitOffsets([{ topic, partition, offset: String(Number(message.offset) + 1) }])
      } catch {
        // While the group moves a commit may be refused; the record comes again.
      }
    } })
    const assigned = () => consumer.assignment().map((tp) => tp.partition)
    return { assigned, leave: () => consumer.disconnect() }
  }, (values) => send(address, topic, 4, values))
}

async function adminTopics(address) {
  await admin(address, async (client) => {
    const topic = fresh('c-admin')
    const config = { topics: [{ topic, numPartitions: 3, replicationFactor: 1 }] }
    equal(await client.createTopics(config), true, 'creating a topic')
    equal(await client.createTopics(config), false, 'creating a topic twice')
    await refused('a topic with a slash', () => client.createTopics({ topics: [{ topic: 'no/slash', numPartitions: 1, replicationFactor: 1 }] }))
    await eventually(20_000, 'the topic is listed', async () => (await client.listTopics()).includes(topic))
    const described = await client.fetchTopicMetadata({ topics: [topic] })
    equal((described.topics ?? described)[0].partitions.length, 3, 'partitions')
    await client.deleteTopics({ topics: [topic] })
    await eventually(20_000, 'the topic is gone', async () => !(await client.listTopics()).includes(topic))
    const error = await refused('deleting a topic twice', () => client.deleteTopics({ topics: [topic] }))
    equal(error.code, ErrorCodes.ERR_UNKNOWN_TOPIC_OR_PART, 'the error of deleting a topic twice')
  })
}

async function adminOffsets(address) {
  const topic = await newTopic(address, 'c-offsets')
  const base = Date.now() - 100_000
  const messages = Array.from({ length: 10 }, (_, i) => ({ value: String(i), timestamp: String(base + 1000 * i) }))
  await using(kafka(address).producer(), (p) => p.send({ topic, messages }))
  const groupId = fresh('c-offsets')
  const consumer = kafka(address).consumer({ kafkaJS: { groupId, fromBeginning: true, autoCommit: false } })
  await consumer.connect()
  let seen = 0
  await consumer.subscribe({ topics: [topic] })
  await consumer.run({ eachMessage: async () => void seen++ })
  await eventually(30_000, 'all records', () => seen === 10)
  await consumer.commitOffsets([{ topic, partition: 0, offset: '7', metadata: 'half way' }])
  await admin(address, async (client) => {
    const told = await client.fetchTopicOffsets(topic, { isolationLevel: IsolationLevel?.READ_COMMITTED })
    equal([told[0].low, told[0].high], ['0', '10'], 'offsets of the topic')
    equal((await client.fetchTopicOffsetsByTimestamp(topic, base + 4500))[0].offset, '5', 'offset at a time')
    const committed = (await client.fetchOffsets({ groupId, topics: [topic] }))[0].partitions[0]
    equal([committed.offset, committed.metadata], ['7', 'half way'], 'the committed offset')
    check((await client.listGroups()).groups.some((g) => g.groupId === groupId), 'the group is not listed')
    const described = (await client.describeGroups([groupId])).groups[0]
    equal([described.state === ConsumerGroupStates.STABLE, described.members.length], [true, 1], 'the group')
    await refused('deleting a group with a member', () => client.deleteGroups([groupId]))
    await client.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '4' }] })
    equal((await client.fetchTopicOffsets(topic))[0].low, '4', 'first offset after deleting records')
    await consumer.disconnect()
    await eventually(20_000, 'the group can be deleted', async () => {
      try {
        await client.deleteGroups([groupId])
        return true
      } catch {
        return false
      }
    })
  })
}

async function transactions(address) {
  const topic = await newTopic(address, 'c-txn', 2)
  const source = await newTopic(address, 'c-source')
  await send(address, source, 1, ['1', '2', '3'])
  const groupId = fresh('c-txn-group')
  const consumer = kafka(address).consumer({ kafkaJS: { groupId, fromBeginning: true, autoCommit: false } })
  await consumer.connect()
  let seen = 0
  await consumer.subscribe({ topics: [source] })
  await consumer.run({ eachMessage: async () => void seen++ })
  await eventually(30_000, 'the source is read', () => seen === 3)
  await using(kafka(address).producer({ kafkaJS: { transactionalId: fresh('c-txn-id') } }), async (producer) => {
    const transact = async (commit, ...values) => {
      const txn = await producer.transaction()
      await txn.send({ topic, messages: values.map((value, i) => ({ value, partition: i % 2 })) })
      await txn.sendOffsets({ consumer, topics: [{ topic: source, partitions: [{ partition: 0, offset: commit ? '3' : '1' }] }] })
      await (commit ? txn.commit() : txn.abort())
    }
    await transact(true, 'a1', 'a2')
    await transact(false, 'b1', 'b2')
    await transact(true, 'c1')
  })
  await consumer.disconnect()
  const values = (messages) => messages.map((m) => m.value.toString()).sort()
  equal(values(await read(address, topic, 3)), ['a1', 'a2', 'c1'], 'read committed')
  equal(values(await read(address, topic, 5, { 'isolation.level': 'read_uncommitted' })), ['a1', 'a2', 'b1', 'b2', 'c1'], 'read uncommitted')
  await admin(address, async (client) =>
    equal((await client.fetchOffsets({ groupId, topics: [source] }))[0].partitions[0].offset, '3', 'the offset of the transactions'))
}

async function fencing(address) {
  const topic = await newTopic(address, 'c-fence')
  const transactionalId = fresh('c-fence-id')
  const open = async (value) => {
    const producer = kafka(address).producer({ kafkaJS: { transactionalId } })
    await producer.connect()
    const txn = await producer.transaction()
    await txn.send({ topic, messages: [{ value }] })
    return [producer, txn]
  }
  const [first, zombie] = await open('of the first')
  const [second, txn] = await open('of the second')
  await refused('the zombie', () => zombie.commit())
  await txn.commit()
  equal((await read(address, topic, 1)).map((m) => m.value.toString()), ['of the second'], 'read committed')
  await Promise.allSettled([first.disconnect(), second.disconnect()])
}

const CLASSIC = { 'session.timeout.ms': 10000, 'heartbeat.interval.ms': 300 }

await main([
  ['round-trip', roundTrip],
  ['compressions', compressions],
  ['acks', acks],
  ['group', group(CLASSIC)],
  ['group-cooperative', group({ ...CLASSIC, 'partition.assignment.strategy': 'cooperative-sticky' })],
  ['group-new', group({ 'group.protocol': 'consumer' }), [API.consumerGroupHeartbeat]],
  ['admin-topics', adminTopics],
  ['admin-offsets', adminOffsets],
  ['transactions', transactions, [API.addPartitionsToTxn]],
  ['fencing', fencing, [API.addPartitionsToTxn]],
])
