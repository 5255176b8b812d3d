// Shared by the Node programs: checks under deadlines, what the server offers, and the check that every group passes.
//
//	node PROGRAM HOST:PORT [CHECK...]
//
// Exit status 1 when a check fails; the others run all the same.

import net from 'node:net'

const CHECK_MS_MAX = 120_000

/** API keys of what the checks need. */
export const API = { addPartitionsToTxn: 24, createAcls: 30, consumerGroupHeartbeat: 68 }

export class Failure extends Error {}

export function check(holds, sentence) {
  if (!holds) throw new Failure(sentence)
}

export function equal(seen, expected, what) {
  const [s, e] = [JSON.stringify(seen), JSON.stringify(expected)]
  check(s === e, `${what}: expected ${e}, got ${s}`)
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

let serial = 0
/** A name that no earlier run has used. */
export const fresh = (stem) => `node-${stem}-${process.pid}-${Date.now() % 1e9}-${serial++}`

/** Asks until the answer is true. */
export async function eventually(ms, what, ask) {
  const until = Date.now() + ms
  for (;;) {
    const answer = await ask()
    if (answer) return answer
    check(Date.now() < until, `not within ${ms} ms: ${what}`)
    await sleep(30)
  }
}

/** The error of a call that must fail. */
export async function refused(what, call) {
  try {
    await call()
  } catch (error) {
    return error
  }
  throw new Failure(`${what} was not refused`)
}

/** Keys of the APIs that the server advertises, asked with ApiVersions v0. */
function offered(address) {
  const [host, port] = address.split(':')
  const request = Buffer.from([0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff])
  return new Promise((resolve, reject) => {
    const socket = net.connect(Number(port), host, () => socket.write(request))
    let got = Buffer.alloc(0)
    socket.setTimeout(20_000, () => reject(new Failure('no answer to ApiVersions')))
    socket.on('error', reject)
    socket.on('data', (data) => {
      got = Buffer.concat([got, data])
      if (got.length < 4 || got.length < 4 + got.readInt32BE(0)) return
      socket.destroy()
      const keys = new Set()
      const count = got.readInt32BE(10)
      for (let i = 0; i < count; i++) keys.add(got.readInt16BE(14 + 6 * i))
      resolve(keys)
    })
  })
}

/** Runs the checks: a list of [name, function] or [name, function, API keys that it needs]. */
export async function main(checks) {
  const [address, ...wanted] = process.argv.slice(2)
  const keys = await offered(address)
  let [passed, failed, skipped] = [0, 0, 0]
  for (const [name, run, needs = []] of checks) {
    if (wanted.length > 0 && !wanted.includes(name)) continue
    const missing = needs.find((key) => !keys.has(key))
    if (missing !== undefined) {
      skipped++
      console.log(`  SKIPPED ${name}: the server does not offer API ${missing}`)
      continue
    }
    const begin = Date.now()
    let timer
    const deadline = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Failure(`not done after ${CHECK_MS_MAX / 1000} s`)), CHECK_MS_MAX)
    })
    try {
      await Promise.race([run(address), deadline])
      passed++
      console.log(`  ok ${name} (${((Date.now() - begin) / 1000).toFixed(1)} s)`)
    } catch (error) {
      failed++
      console.log(`  FAILED ${name}: ${error instanceof Failure ? error.message : error.stack}`)
    } finally {
      clearTimeout(timer)
    }
  }
  console.log(`  ${passed} passed, ${failed} failed, ${skipped} skipped`)
  // Clients of failed checks may still hold sockets.
  process.exit(failed > 0 || passed + skipped === 0 || (skipped > 0 && process.env.CI === 'true') ? 1 : 0)
}

/**
 * Two members share a topic of four partitions, one leaves, the partitions move; nothing is lost.
 *
 * open(handle) starts a member that calls handle(partition, offset, value) for each record and commits it afterwards;
 * the member has assigned() (partitions) and leave(). produce(values) sends value i to partition i%4.
 */
export async function checkGroup(open, produce) {
  const values = new Map()
  let wrong
  const handle = (partition, offset, value) => {
    const place = `${partition}/${offset}`
    if (values.has(place) && values.get(place) !== value) wrong = `${place} changed its value`
    values.set(place, value)
  }
  const sent = Array.from({ length: 300 }, (_, i) => `g${String(i).padStart(6, '0')}`)
  const wait = (shares, count, ...members) => {
    const state = () => members.map((m) => m.assigned().length).sort()
    const there = () => {
      const whole = new Set(members.flatMap((m) => m.assigned()))
      return JSON.stringify(state()) === JSON.stringify(shares) && whole.size === 4 && values.size >= count
    }
    return eventually(60_000, `${members.length} members with ${shares} of 4 partitions and ${count} records`, there)
  }
  await produce(sent.slice(0, 100))
  const first = await open(handle)
  await wait([4], 100, first)
  const second = await open(handle)
  await wait([2, 2], 100, first, second)
  await produce(sent.slice(100, 200))
  await wait([2, 2], 200, first, second)
  await first.leave()
  await wait([4], 200, second)
  await produce(sent.slice(200))
  await wait([4], 300, second)
  await second.leave()
  check(!wrong, wrong)
  equal([...values.values()].sort(), sent, 'the values that the group has handled')
}
