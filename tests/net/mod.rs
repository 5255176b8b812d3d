//! Owns the tests of the reactor with a scripted broker behind it, and of the server's process.

mod leaving;
pub mod process;
mod scripted;
mod space;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chronik::net::reactor::{Limits, Outcome};
use chronik::sys::socket;

use scripted::*;

#[test]
fn requests_split_at_each_byte_are_answered() {
    let rig = Rig::start(wide_limits());
    let mut client = rig.client();
    for byte in request(ECHO, 7, b"byte by byte") {
        client.stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(client.receive(), (7, b"byte by byte".to_vec()));
    assert_eq!(rig.stop(), Outcome::Stopped { complete: true });
}

#[test]
fn pipelined_requests_are_answered_in_order_even_behind_a_parked_one() {
    let rig = Rig::start(wide_limits());
    let mut client = rig.client();
    let mut burst = request(PARK, 0, &30u32.to_be_bytes());
    for correlation_id in 1..2000i32 {
        burst.extend(request(ECHO, correlation_id, &correlation_id.to_be_bytes()));
    }
    client.stream.write_all(&burst).unwrap();
    // Somebody else is served while the first connection waits.
    let mut other = rig.client();
    other.send(ECHO, 1, b"meanwhile");
    assert_eq!(other.receive(), (1, b"meanwhile".to_vec()));
    assert_eq!(client.receive(), (0, b"waited".to_vec()));
    for correlation_id in 1..2000i32 {
        assert_eq!(client.receive(), (correlation_id, correlation_id.to_be_bytes().to_vec()));
    }
}

#[test]
fn produce_is_answered_after_its_group_and_one_group_is_in_flight() {
    let rig = Rig::start(wide_limits());
    let mut client = rig.client();
    client.send(PRODUCE, 1, b"a");
    client.send(PRODUCE, 2, b"0");
    client.send(PRODUCE, 3, b"b");
    rig.turn_until(|seen| seen.requests.load(Ordering::SeqCst) == 3);
    client.stream.set_nonblocking(true).unwrap();
    assert!(client.stream.read(&mut [0]).is_err(), "nothing is answered before it is durable");
    client.stream.set_nonblocking(false).unwrap();
    rig.make_durable();
    assert_eq!(client.receive(), (1, b"durable".to_vec()));
    // What came while the first group was written went into the second, unless all three shared the first.
    if rig.metrics.produce_latency.count() < 2 {
        rig.make_durable();
    }
    assert_eq!(client.receive(), (3, b"durable".to_vec()));
    assert_eq!(rig.metrics.produce_latency.count(), 2, "acks=0 is not measured");
    assert!(rig.groups.try_recv().is_err());
}

#[test]
fn produce_waits_in_its_socket_while_the_log_is_behind() {
    let rig = Rig::start(wide_limits());
    rig.seen.behind.store(true, Ordering::SeqCst);
    let mut producer = rig.client();
    // Large enough that the reader asks before it takes the whole of it into memory.
    producer.send(PRODUCE, 1, b"small");
    let large = vec![7; 3 << 20];
    let sender = {
        let stream = producer.stream.try_clone().unwrap();
        std::thread::spawn(move || (&stream).write_all(&request(PRODUCE, 2, &large)).unwrap())
    };
    let mut other = rig.client();
    other.send(ECHO, 1, b"served");
    assert_eq!(other.receive().0, 1);
    assert_eq!(rig.seen.requests.load(Ordering::SeqCst), 1);
    rig.seen.behind.store(false, Ordering::SeqCst);
    rig.turn();
    rig.make_durable();
    assert_eq!(producer.receive(), (1, b"durable".to_vec()));
    rig.make_durable();
    assert_eq!(producer.receive(), (2, b"durable".to_vec()));
    sender.join().unwrap();
}

#[test]
fn record_data_is_the_same_from_memory_and_from_the_file() {
    let rig = Rig::start(wide_limits());
    let file = file_bytes();
    let ranges: [(u32, u32); 6] = [(0, 1), (5, 0), (4096, 3_000_000), (17, 100_000), (3_999_999, 1), (0, 4_000_000)];
    let payload: Vec<u8> =
        ranges.iter().flat_map(|(position, len)| [position.to_be_bytes(), len.to_be_bytes()]).flatten().collect();
    let mut expected = Vec::new();
    for (position, len) in ranges {
        expected.push(b'|');
        expected.extend(&file[position as usize..(position + len) as usize]);
    }
    let mut client = rig.client();
    for in_ring in [true, false] {
        rig.seen.in_ring.store(in_ring, Ordering::SeqCst);
        for correlation_id in 0..3 {
            client.send(FETCH, correlation_id, &payload);
            client.send(ECHO, 100 + correlation_id, b"between");
        }
        for correlation_id in 0..3 {
            let (got, bytes) = client.receive();
            assert!(got == correlation_id && bytes == expected, "in_ring {in_ring}");
            assert_eq!(client.receive(), (100 + correlation_id, b"between".to_vec()));
        }
    }
}

#[test]
fn a_client_that_sends_and_never_reads_costs_its_bound_and_is_closed() {
    let rig = Rig::start(Limits { unread_us: 300_000, ..wide_limits() });
    let mut client = rig.client();
    let fill = request(FILL, 1, &16_384u32.to_be_bytes());
    let burst = fill.repeat(100);
    let mut sent = 0usize;
    // Ends when the server closes the connection.
    while client.stream.write_all(&burst).is_ok() {
        sent += 100;
        assert!(sent < 100_000_000, "the server takes everything");
    }
    let handled = rig.seen.requests.load(Ordering::SeqCst);
    // What the kernel buffers on both sides is at most some MB; the server's own share is 64 KiB and one answer.
    assert!(handled * 16_384 < 32 << 20, "{handled} requests were answered into memory");
    rig.turn_until(|seen| seen.disconnected.load(Ordering::SeqCst) == 1);
    let mut other = rig.client();
    other.send(ECHO, 1, b"unharmed");
    assert_eq!(other.receive().0, 1);
}

#[test]
fn garbage_tls_http_and_impossible_lengths_are_closed_at_once() {
    let rig = Rig::start(wide_limits());
    let cases: [&[u8]; 6] = [
        &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01],
        &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        &[0x80, 0, 0, 0],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0],
        b"\n\n\n\n\n\n",
    ];
    for case in cases {
        let mut client = rig.client();
        client.stream.write_all(case).unwrap();
        assert!(client.is_closed(), "{case:?}");
    }
    let mut client = rig.client();
    client.stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    client.stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 400 ") && text.contains("--metrics-port"), "{text}");
    // A good request before the garbage is still answered.
    let mut client = rig.client();
    client.stream.write_all(&[request(ECHO, 1, b"good"), vec![0xff; 4]].concat()).unwrap();
    assert_eq!(client.receive(), (1, b"good".to_vec()));
    assert!(client.is_closed());
}

#[test]
fn the_broker_can_close_a_connection_after_its_answers() {
    let rig = Rig::start(wide_limits());
    let mut client = rig.client();
    client.stream.write_all(&[request(ECHO, 1, b"last"), request(CLOSE, 2, b"")].concat()).unwrap();
    assert_eq!(client.receive(), (1, b"last".to_vec()));
    assert!(client.is_closed());
    rig.turn_until(|seen| seen.disconnected.load(Ordering::SeqCst) == 1);
}

#[test]
fn thousands_of_half_open_connections_harm_nobody() {
    let rig = Rig::start(wide_limits());
    let count = (chronik::sys::socket::raise_open_files_limit().unwrap() / 4).min(4000) as usize;
    let half_open: Vec<TcpStream> = (0..count)
        .map(|i| {
            let mut stream = TcpStream::connect(rig.address).unwrap();
            stream.write_all(&request(ECHO, 1, &[0; 64])[..i % 12]).unwrap();
            stream
        })
        .collect();
    let mut client = rig.client();
    for correlation_id in 0..100 {
        client.send(ECHO, correlation_id, b"as ever");
        assert_eq!(client.receive().0, correlation_id);
    }
    assert_eq!(rig.metrics.active_connections.get(), count as i64 + 1);
    drop(half_open);
    rig.turn_until(|seen| seen.disconnected.load(Ordering::SeqCst) == count);
}

#[test]
fn connections_that_come_and_go_by_the_thousand_leave_nothing() {
    let rig = Rig::start(wide_limits());
    let mut good = rig.client();
    for number in 0..3000 {
        let mut client = rig.client();
        match number % 3 {
            0 => {}
            // Its answer meets a closed socket, which resets the connection.
            1 => client.send(ECHO, 1, b"unread"),
            _ => client.stream.write_all(&request(ECHO, 1, b"half")[..7]).unwrap(),
        }
        if number % 100 == 0 {
            good.send(ECHO, number, b"as ever");
            assert_eq!(good.receive().0, number);
        }
    }
    rig.turn_until(|seen| seen.disconnected.load(Ordering::SeqCst) == 3000);
    rig.turn();
    assert_eq!(rig.metrics.active_connections.get(), 1);
    assert_eq!(rig.metrics.response_memory_bytes.get(), 0);
    // One buffer is kept at hand for the next read.
    assert!(rig.metrics.request_memory_bytes.get() <= 64 << 10);
}

#[test]
fn the_largest_request_is_taken_and_one_byte_more_is_not() {
    let rig = Rig::start(Limits { frame_bytes_max: 1 << 20, ..wide_limits() });
    let mut client = rig.client();
    client.send(ECHO, 1, &vec![7; (1 << 20) - 8]);
    assert_eq!(client.receive().1.len(), (1 << 20) - 8);
    client.stream.write_all(&request(ECHO, 2, &vec![7; (1 << 20) - 7])[..12]).unwrap();
    assert!(client.is_closed());
}

#[test]
fn incomplete_requests_that_make_no_progress_give_their_memory_to_others() {
    let rig = Rig::start(Limits { request_bytes_max: 1 << 20, ..wide_limits() });
    // Eight halves of large requests take all the memory there is.
    let mut stalled: Vec<Client> = (0..8).map(|_| rig.client()).collect();
    let whole = request(ECHO, 1, &[1; 600 << 10]);
    for client in &mut stalled {
        client.stream.write_all(&whole[..300 << 10]).unwrap();
    }
    // Others get through nevertheless, one after the other if need be.
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let mut client = rig.client();
            std::thread::spawn(move || {
                for correlation_id in 0..3 {
                    client.send(ECHO, correlation_id, &[2; 700 << 10]);
                    let (got, payload) = client.receive();
                    assert!(got == correlation_id && payload.len() == 700 << 10);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
}

#[test]
fn large_requests_of_whom_usually_sends_them_take_no_more_memory_than_they_may() {
    const LARGE: usize = 30 << 20;
    let (frame_bytes_max, request_bytes_max) = (32 << 20, 32 << 20);
    let rig = Rig::start(Limits { frame_bytes_max, request_bytes_max, ..wide_limits() });
    let whole = request(PRODUCE, 1, &vec![1; LARGE]);
    let mut clients: Vec<Client> = (0..3).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.stream.write_all(&whole).unwrap();
    }
    rig.turn_until(|seen| seen.requests.load(Ordering::SeqCst) == 3);
    // Now a part of another one each, which is more than a first read takes.
    for client in &mut clients {
        client.stream.write_all(&whole[..5 << 20]).unwrap();
    }
    let mut good = rig.client();
    for correlation_id in 0..100 {
        good.send(ECHO, correlation_id, b"as ever");
        assert_eq!(good.receive().0, correlation_id);
        assert!(rig.metrics.request_memory_bytes.get() <= request_bytes_max as i64);
    }
}

#[test]
fn answers_that_nobody_reads_take_no_more_memory_than_they_may() {
    const ANSWER: usize = 8 << 20;
    let rig = Rig::start(Limits { response_bytes_max: 3 * ANSWER, ..wide_limits() });
    // Each answer is more than the kernel takes of it, so it stays.
    let mut mute: Vec<Client> = (0..20).map(|_| rig.client()).collect();
    for client in &mut mute {
        client.send(FILL, 1, &(ANSWER as u32).to_be_bytes());
    }
    let most = Arc::new(AtomicUsize::new(0));
    let look = |rig: &Rig| most.fetch_max(rig.metrics.response_memory_bytes.get() as usize, Ordering::SeqCst);
    rig.turn_until(|_| look(&rig) >= ANSWER);
    // Whoever wants little is served meanwhile; for more, somebody has to go who does not read.
    let mut good = rig.client();
    for correlation_id in 0..100 {
        good.send(ECHO, correlation_id, b"as ever");
        assert_eq!(good.receive().0, correlation_id);
        look(&rig);
    }
    good.send(FILL, 100, &(ANSWER as u32).to_be_bytes());
    rig.turn_until(|seen| {
        look(&rig);
        seen.disconnected.load(Ordering::SeqCst) > 0
    });
    drop(mute);
    assert_eq!(good.receive().1.len(), ANSWER);
    let most = most.load(Ordering::SeqCst);
    assert!(most <= 3 * ANSWER, "answers took {most} bytes");
    rig.turn_until(|_| rig.metrics.response_memory_bytes.get() == 0);
}

#[test]
fn halves_of_requests_that_trickle_keep_back_no_small_ones_and_do_not_stay() {
    let rig = Rig::start(Limits { request_bytes_max: 4 << 20, ..wide_limits() });
    let whole = request(ECHO, 1, &[1; 2 << 20]);
    let mut halves: Vec<Client> = (0..16).map(|_| rig.client()).collect();
    for client in &mut halves {
        // What finds no memory stays in the socket, whose buffers take less than that.
        client.stream.set_nonblocking(true).unwrap();
        let _ = client.stream.write(&whole[..1 << 20]);
    }
    rig.turn_until(|_| rig.metrics.request_memory_bytes.get() >= 3 << 20);
    let mut good = rig.client();
    let mut correlation_id = 0;
    // A byte each now and then is no progress; after a while the largest go, and meanwhile small requests are served.
    rig.turn_until(|seen| {
        correlation_id += 1;
        good.send(ECHO, correlation_id, b"as ever");
        assert_eq!(good.receive().0, correlation_id);
        for client in &mut halves {
            let _ = client.stream.write(&[1]);
        }
        seen.disconnected.load(Ordering::SeqCst) > 0
    });
    drop(halves);
    rig.turn_until(|_| rig.metrics.request_memory_bytes.get() <= 64 << 10);
}

#[test]
fn beginnings_of_large_requests_leave_memory_for_small_ones() {
    const MOST: i64 = 4 << 20;
    let rig = Rig::start(Limits { request_bytes_max: MOST as usize, ..wide_limits() });
    // More of them than memory has plain reads.
    let whole = request(ECHO, 1, &[1; 1 << 20]);
    let mut beginnings: Vec<Client> = (0..150).map(|_| rig.client()).collect();
    for client in &mut beginnings {
        client.stream.write_all(&whole[..60_000]).unwrap();
    }
    rig.turn_until(|_| rig.metrics.request_memory_bytes.get() >= MOST / 4 * 3);
    let mut good = rig.client();
    for correlation_id in 0..100 {
        good.send(ECHO, correlation_id, &[2; 1000]);
        assert_eq!(good.receive().0, correlation_id);
        // One goes on regardless, and each turn overshoots by one read at most.
        let taken = rig.metrics.request_memory_bytes.get();
        assert!(taken <= MOST / 8 * 7 + 3 * (64 << 10), "{taken} bytes are taken");
    }
    drop(beginnings);
    rig.turn_until(|_| rig.metrics.request_memory_bytes.get() <= 64 << 10);
}

/// A large request may come on top of all memory. While it was complete and worked upon, nobody was read, and the next large one came
/// on top of it.
#[test]
fn small_requests_do_not_wait_while_a_large_one_on_top_is_worked_upon() {
    const LARGE: usize = 3 << 20;
    let (frame_bytes_max, request_bytes_max) = (4 << 20, 1 << 20);
    let rig = Rig::start(Limits { frame_bytes_max, request_bytes_max, ..wide_limits() });
    // Its payload is kept for as long as it is parked.
    let mut large: Vec<Client> = (0..3).map(|_| rig.client()).collect();
    let whole = request(KEEP, 1, &vec![1; LARGE]);
    for client in &mut large {
        client.stream.set_nonblocking(true).unwrap();
    }
    let mut sent = [0; 3];
    let mut good = rig.client();
    let mut correlation_id = 0;
    rig.turn_until(|seen| {
        for (client, sent) in large.iter_mut().zip(&mut sent) {
            *sent += client.stream.write(&whole[*sent..]).unwrap_or(0);
        }
        correlation_id += 1;
        good.send(ECHO, correlation_id, b"as ever");
        assert_eq!(good.receive().0, correlation_id);
        seen.kept.load(Ordering::SeqCst) > 0
    });
    for _ in 0..100 {
        for (client, sent) in large.iter_mut().zip(&mut sent) {
            *sent += client.stream.write(&whole[*sent..]).unwrap_or(0);
        }
        correlation_id += 1;
        good.send(ECHO, correlation_id, b"as ever");
        assert_eq!(good.receive().0, correlation_id);
        assert_eq!(rig.seen.kept.load(Ordering::SeqCst), 1, "another one came on top");
        assert!(rig.metrics.request_memory_bytes.get() < (frame_bytes_max + request_bytes_max) as i64);
    }
}

#[test]
fn requests_that_take_long_do_not_make_one_long_turn() {
    let rig = Rig::start(wide_limits());
    let mut clients: Vec<Client> = (0..5).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.stream.write_all(&request(SPIN, 1, b"").repeat(20)).unwrap();
    }
    for client in &mut clients {
        (0..20).for_each(|_| assert_eq!(client.receive().0, 1));
    }
    assert_eq!(rig.seen.most_in_a_turn.load(Ordering::SeqCst), 1);
}

/// Holds who asks for little against 40 clients that ask for much, and whose turn it has been more than a few times: of those only a
/// few get on before it is answered.
fn is_not_behind_who_ask_for_much(ask: impl Fn(&mut Client)) {
    const BUSY: usize = 40;
    const EACH: usize = 30;
    let rig = Rig::start(wide_limits());
    let mut busy: Vec<Client> = (0..BUSY).map(|_| rig.client()).collect();
    for client in &mut busy {
        client.stream.write_all(&request(SPIN, 1, b"").repeat(EACH)).unwrap();
    }
    // By now all of them come later. Of those one in every other turn gets on, too.
    rig.turn_until(|seen| seen.requests.load(Ordering::SeqCst) > 5 * BUSY);
    let mut good = rig.client();
    for _ in 0..5 {
        let before = rig.seen.requests.load(Ordering::SeqCst);
        ask(&mut good);
        let meanwhile = rig.seen.requests.load(Ordering::SeqCst) - before;
        assert!(meanwhile < BUSY / 4, "{meanwhile} requests of others came first");
    }
    for client in &mut busy {
        (0..EACH).for_each(|_| assert_eq!(client.receive().0, 1));
    }
}

/// Who had just asked for one thing stood behind all who had asked for many, each of whom got a whole turn.
#[test]
fn who_asks_for_little_waits_only_for_one_visit_to_each_who_asks_for_much() {
    is_not_behind_who_ask_for_much(|good| {
        good.send(ECHO, 1, b"as ever");
        assert_eq!(good.receive().0, 1);
    });
}

/// One visit that took long, perhaps because the processor was taken away in it, and a client stood behind all who ask for much.
#[test]
fn a_single_long_visit_puts_nobody_behind_those_who_ask_for_much() {
    is_not_behind_who_ask_for_much(|good| {
        good.stream.write_all(&[request(SPIN, 1, b""), request(ECHO, 2, b"behind")].concat()).unwrap();
        assert_eq!((good.receive().0, good.receive().0), (1, 2));
    });
}

/// Each written group had every connection looked at whose next request had to wait for one of its own.
#[test]
fn a_written_group_looks_only_at_connections_that_it_concerns() {
    const COUNT: usize = 200;
    let rig = Rig::start(wide_limits());
    let mut waiting: Vec<Client> = (0..COUNT).map(|_| rig.client()).collect();
    for client in &mut waiting {
        let parked = request(PARK, 1, &600_000u32.to_be_bytes());
        client.stream.write_all(&[parked, request(ECHO, 2, b"behind")].concat()).unwrap();
    }
    rig.turn_until(|seen| seen.parked.load(Ordering::SeqCst) == COUNT);
    rig.seen.behind.store(true, Ordering::SeqCst);
    let mut held: Vec<Client> = (0..COUNT).map(|_| rig.client()).collect();
    for client in &mut held {
        client.stream.write_all(&[request(ECHO, 1, b"first"), request(PRODUCE, 2, b"held")].concat()).unwrap();
        assert_eq!(client.receive().0, 1);
    }
    // All have been asked for.
    rig.turn_until(|seen| seen.requests.load(Ordering::SeqCst) == 2 * COUNT);
    rig.turn_until(|seen| seen.asked.load(Ordering::SeqCst) >= 4 * COUNT);
    rig.turn();
    let before = rig.seen.asked.load(Ordering::SeqCst);
    for _ in 0..COUNT {
        rig.turn();
    }
    let asked = rig.seen.asked.load(Ordering::SeqCst) - before;
    assert!(asked <= 2 * COUNT, "{asked} questions in {COUNT} turns in which nobody could go on");
    rig.seen.behind.store(false, Ordering::SeqCst);
    rig.turn_until(|seen| seen.requests.load(Ordering::SeqCst) == 3 * COUNT);
}

#[test]
fn limits_on_connections_hold_and_are_counted() {
    let rig = Rig::start(Limits { connections_per_ip_max: 3, ..wide_limits() });
    let mut clients: Vec<Client> = (0..3).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.send(ECHO, 1, b"in");
        assert_eq!(client.receive().0, 1);
    }
    assert!(rig.client().is_closed());
    assert_eq!(rig.metrics.connections_refused.get(), 1);
    clients.pop();
    rig.turn_until(|seen| seen.disconnected.load(Ordering::SeqCst) == 1);
    let mut client = rig.client();
    client.send(ECHO, 1, b"there is room again");
    assert_eq!(client.receive().0, 1);
}

#[test]
fn a_stop_finishes_what_is_in_flight_and_takes_nothing_new() {
    let rig = Rig::start(wide_limits());
    let mut producer = rig.client();
    producer.send(PRODUCE, 1, b"a");
    let mut waiting = rig.client();
    waiting.send(PARK, 2, &600_000u32.to_be_bytes());
    rig.turn_until(|seen| seen.requests.load(Ordering::SeqCst) == 2);
    rig.inbox.push(chronik::net::inbox::Completion::Stop);
    assert_eq!(waiting.receive(), (2, b"stopping".to_vec()));
    assert!(TcpStream::connect(rig.address).is_err());
    rig.make_durable();
    assert_eq!(producer.receive(), (1, b"durable".to_vec()));
    assert_eq!(rig.join(), Outcome::Stopped { complete: true });
}

#[test]
fn a_stop_that_cannot_finish_ends_within_its_bound() {
    let rig = Rig::start(Limits { stop_us: 50_000, ..wide_limits() });
    let mut producer = rig.client();
    producer.send(PRODUCE, 1, b"never durable");
    rig.turn_until(|seen| seen.requests.load(Ordering::SeqCst) == 1);
    assert_eq!(rig.stop(), Outcome::Stopped { complete: false });
}

#[test]
fn a_broken_log_ends_the_loop_without_an_answer() {
    let rig = Rig::start(wide_limits());
    let mut producer = rig.client();
    producer.send(PRODUCE, 1, b"a");
    rig.turn_until(|seen| seen.requests.load(Ordering::SeqCst) == 1);
    rig.inbox.push(chronik::net::inbox::Completion::Fatal("fdatasync failed".into()));
    assert_eq!(rig.join(), Outcome::Fatal("fdatasync failed".into()));
    assert!(producer.is_closed());
}

/// A thread whose use of the processor is watched through files that stay open, so that it works without a descriptor.
#[cfg(target_os = "linux")]
struct Watched {
    stat: std::fs::File,
    status: std::fs::File,
}

#[cfg(target_os = "linux")]
impl Watched {
    fn new(thread_id: i32) -> Watched {
        let open = |name| std::fs::File::open(format!("/proc/self/task/{thread_id}/{name}")).unwrap();
        Watched { stat: open("stat"), status: open("status") }
    }

    /// CPU time in clock ticks, and voluntary context switches.
    fn usage(&self) -> (u64, u64) {
        use std::os::unix::fs::FileExt;
        let read = |file: &std::fs::File| {
            let mut text = vec![0; 8192];
            let count = file.read_at(&mut text, 0).unwrap();
            String::from_utf8(text[..count].to_vec()).unwrap()
        };
        let stat = read(&self.stat);
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        let status = read(&self.status);
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        (ticks, line.split_whitespace().last().unwrap().parse().unwrap())
    }

    /// Looks on for a while: the share of a core that the thread used, and how often it woke.
    fn watch(&self, window: Duration) -> (f64, u64) {
        let (ticks_before, woke_before) = self.usage();
        let begun = Instant::now();
        std::thread::sleep(window);
        let (ticks, woke) = self.usage();
        let seconds = (ticks - ticks_before) as f64 / 100.0;
        (seconds / begun.elapsed().as_secs_f64(), woke - woke_before)
    }
}

/// Watches the reactor's thread from the end of a turn on.
#[cfg(target_os = "linux")]
fn watch(rig: &Rig, window: Duration) -> (f64, u64) {
    let watched = Watched::new(rig.thread_id);
    rig.turn();
    watched.watch(window)
}

#[cfg(target_os = "linux")]
#[test]
fn closed_sockets_of_every_kind_do_not_spin() {
    // Nobody makes durable what was held, so it is not answered.
    let rig = Rig::start(Limits { linger_us: 100_000, unread_us: 300_000, ..wide_limits() });
    rig.seen.behind.store(true, Ordering::SeqCst);
    let mut kept = Vec::new();
    for kind in 0..6 {
        let mut client = rig.client();
        client.send(ECHO, 1, b"hello");
        client.receive();
        match kind {
            0 => {}
            // The client closes while its request is held, completely or half.
            1 => client.send(PRODUCE, 2, b"held"),
            2 => {
                client.send(PRODUCE, 2, b"held");
                client.stream.shutdown(Shutdown::Write).unwrap();
                kept.push(client);
                continue;
            }
            3 => client.send(PARK, 2, &600_000u32.to_be_bytes()),
            // With unread answers the kernel sends a reset.
            4 => client.send(FILL, 2, &100_000u32.to_be_bytes()),
            _ => {
                client.stream.shutdown(Shutdown::Both).unwrap();
                kept.push(client);
                continue;
            }
        }
        drop(client);
    }
    rig.turn_until(|seen| seen.disconnected.load(Ordering::SeqCst) >= 3);
    let (share, woke) = watch(&rig, Duration::from_secs(1));
    assert!(share < 0.05, "the reactor uses {share} of a core with closed sockets");
    assert!(woke <= 2, "the reactor woke {woke} times");
    rig.seen.behind.store(false, Ordering::SeqCst);
    rig.turn_until(|seen| seen.disconnected.load(Ordering::SeqCst) == 6);
}

#[cfg(target_os = "linux")]
#[test]
fn an_idle_reactor_makes_no_wake_ups() {
    let rig = Rig::start(wide_limits());
    let mut clients: Vec<Client> = (0..100).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.send(ECHO, 1, b"hello");
        client.receive();
    }
    clients[0].send(PARK, 2, &600_000u32.to_be_bytes());
    rig.turn_until(|seen| seen.requests.load(Ordering::SeqCst) == 101);
    let (share, woke) = watch(&rig, Duration::from_secs(1));
    // The question that `watch` asks may itself be the one switch that is still to come.
    assert!(woke <= 1, "an idle reactor woke {woke} times");
    assert!(share < 0.01);
}

/// Runs an ignored test of this file in a process of its own, because limits are the process's and not the test's.
#[cfg(target_os = "linux")]
fn in_a_process(name: &str) {
    let path = format!("net::{name}");
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &path, "--ignored", "--test-threads=1"])
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

#[cfg(target_os = "linux")]
#[test]
fn running_out_of_descriptors_neither_spins_nor_forgets_who_waits() {
    in_a_process("out_of_descriptors");
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "runs in a process of its own"]
fn out_of_descriptors() {
    let rig = Rig::start(wide_limits());
    let mut early: Vec<Client> = (0..5).map(|_| rig.client()).collect();
    for client in &mut early {
        client.send(ECHO, 1, b"in");
        client.receive();
    }
    // Clients take descriptors of this process too: the last that fits has none left on the server's side.
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let watched = Watched::new(rig.thread_id);
    socket::lower_open_files_limit(open + 3).unwrap();
    let mut late = Vec::new();
    while let Ok(stream) = TcpStream::connect(rig.address) {
        late.push(stream);
    }
    let (share, woke) = watched.watch(Duration::from_secs(2));
    assert!(share < 0.1, "the reactor uses {share} of a core while it cannot accept");
    assert!(woke < 10, "the reactor woke {woke} times");
    early[0].send(ECHO, 2, b"unharmed");
    assert_eq!(early[0].receive().0, 2);
    // When others leave, those who wait get their turn.
    early.truncate(1);
    for stream in &mut late {
        stream.write_all(&request(ECHO, 3, b"at last")).unwrap();
        assert_eq!(stream.read(&mut [0; 64]).unwrap(), 15);
    }
}
