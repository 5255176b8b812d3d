//! Owns the tests of how connections end: of clients that leave with work under way, that close half of it, and that stay and do nothing.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chronik::net::reactor::{Limits, Outcome};

use super::scripted::*;

const LONG_MS: [u8; 4] = 600_000u32.to_be_bytes();

/// How clients leave.
#[derive(Clone, Copy, Debug)]
enum Leave {
    Close,
    /// They could still read.
    Half,
    Reset,
}

/// A client that has had an answer; whoever leaves it unread resets the connection by closing it.
fn greeted(rig: &Rig, leave: Leave) -> Client {
    let mut client = rig.client();
    client.send(ECHO, 1, b"hello");
    match leave {
        Leave::Reset => assert!(client.stream.peek(&mut [0; 64]).unwrap() > 0),
        Leave::Close | Leave::Half => assert_eq!(client.receive().0, 1),
    }
    client
}

/// The client leaves; what is left of it.
fn leave(client: Client, how: Leave) -> Option<Client> {
    match how {
        Leave::Half => {
            client.stream.shutdown(Shutdown::Write).unwrap();
            Some(client)
        }
        Leave::Close | Leave::Reset => None,
    }
}

#[test]
fn who_leaves_while_a_request_waits_and_others_stand_behind_it_is_noticed() {
    let rig = Rig::start(wide_limits());
    let mut gone = 0;
    for how in [Leave::Close, Leave::Half, Leave::Reset] {
        // Behind the request that waits: nothing, a whole one, more than one read takes, a large one that is incomplete. But no more
        // than the kernel takes from the client, whose leaving it does not tell before that.
        let behind = [
            Vec::new(),
            request(PARK, 3, &LONG_MS),
            request(ECHO, 3, &[3; 1000]).repeat(80),
            request(ECHO, 3, &[3; 200 << 10])[..100 << 10].to_vec(),
        ];
        for behind in behind {
            let mut client = greeted(&rig, how);
            client.stream.write_all(&[request(PARK, 2, &LONG_MS), behind].concat()).unwrap();
            gone += 1;
            rig.turn_until(|seen| seen.parked.load(Ordering::SeqCst) >= gone);
            let half = leave(client, how);
            rig.turn_until(|seen| seen.disconnected.load(Ordering::SeqCst) == gone);
            drop(half);
        }
    }
    rig.turn();
    assert_eq!(rig.metrics.active_connections.get(), 0);
    assert!(rig.metrics.request_memory_bytes.get() <= 64 << 10);
}

#[test]
fn what_was_sent_behind_a_request_that_waits_is_carried_out_though_its_client_has_left() {
    let rig = Rig::start(wide_limits());
    let mut client = rig.client();
    let unanswered = request(PRODUCE, 2, b"0").repeat(2000);
    client.stream.write_all(&[request(PARK, 1, &LONG_MS), unanswered].concat()).unwrap();
    drop(client);
    rig.turn_until(|seen| seen.requests.load(Ordering::SeqCst) == 2001);
    while rig.seen.disconnected.load(Ordering::SeqCst) == 0 {
        rig.make_durable();
    }
}

#[test]
fn who_closes_its_side_gets_the_answers_to_what_it_has_sent() {
    let rig = Rig::start(wide_limits());
    let mut client = rig.client();
    let asked: Vec<u8> = (0..2000).flat_map(|id| request(ECHO, id, &[7; 500])).collect();
    client.stream.write_all(&[asked, request(PRODUCE, 2000, b"a")].concat()).unwrap();
    client.stream.shutdown(Shutdown::Write).unwrap();
    for id in 0..2000 {
        assert_eq!(client.receive(), (id, vec![7; 500]));
    }
    rig.make_durable();
    assert_eq!(client.receive(), (2000, b"durable".to_vec()));
    assert!(client.is_closed());
    rig.turn_until(|seen| seen.disconnected.load(Ordering::SeqCst) == 1);
    assert_eq!(rig.stop(), Outcome::Stopped { complete: true });
}

/// A turn has time to close some of them. The others stayed until something else happened.
#[test]
fn many_who_closed_their_side_and_got_their_answers_at_once_are_all_closed() {
    const COUNT: usize = 400;
    let rig = Rig::start(Limits { linger_us: 600_000_000, unread_us: 600_000_000, ..wide_limits() });
    let mut clients: Vec<Client> = (0..COUNT).map(|_| rig.client()).collect();
    // The group of the first is on its way while the others come, who are all in the next one.
    clients[0].send(PRODUCE, 1, b"a");
    rig.turn_until(|seen| seen.requests.load(Ordering::SeqCst) == 1);
    for client in &mut clients[1..] {
        client.send(PRODUCE, 1, b"a");
    }
    rig.turn_until(|seen| seen.requests.load(Ordering::SeqCst) == COUNT);
    for client in &mut clients {
        client.stream.shutdown(Shutdown::Write).unwrap();
    }
    rig.make_durable();
    // Nothing happens after this.
    rig.make_durable();
    for client in &mut clients {
        assert_eq!(client.receive(), (1, b"durable".to_vec()));
        assert!(client.is_closed(), "{} are still there", rig.metrics.active_connections.get());
    }
}

#[test]
fn those_who_left_are_not_looked_at_again_before_something_has_happened() {
    const COUNT: usize = 400;
    let rig = Rig::start(Limits { linger_us: 600_000_000, unread_us: 600_000_000, ..wide_limits() });
    let mut clients: Vec<Client> = (0..COUNT).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.send(PRODUCE, 1, b"a");
    }
    rig.turn_until(|seen| seen.requests.load(Ordering::SeqCst) == COUNT);
    for client in &mut clients {
        client.stream.shutdown(Shutdown::Write).unwrap();
    }
    rig.turn_until(|seen| seen.owed.load(Ordering::SeqCst) >= COUNT);
    // Nothing happens to the broker now, though there are turns.
    let mut other = rig.client();
    let looks = |n| {
        other.send(ECHO, n, b"hello");
        assert_eq!(other.receive(), (n, b"hello".to_vec()));
        rig.seen.owed.load(Ordering::SeqCst)
    };
    let looks: Vec<usize> = (0..1000).map(looks).collect();
    assert_eq!(looks[900], looks[999], "they are looked at in every turn");
    rig.make_durable();
    rig.make_durable();
    for client in &mut clients {
        assert_eq!(client.receive(), (1, b"durable".to_vec()));
        assert!(client.is_closed());
    }
}

#[test]
fn who_closes_its_side_and_does_not_read_is_not_kept_for_long() {
    let rig = Rig::start(Limits { linger_us: 300_000, ..wide_limits() });
    // More than the kernel takes, with others behind it, before and after all is handled.
    let much = request(FILL, 1, &(8u32 << 20).to_be_bytes());
    for count in [1, 100] {
        let mut client = rig.client();
        client.stream.write_all(&much.repeat(count)).unwrap();
        rig.turn_until(|_| rig.metrics.response_memory_bytes.get() > 0);
        client.stream.shutdown(Shutdown::Write).unwrap();
        rig.turn_until(|_| rig.metrics.active_connections.get() == 0);
        // What the kernel had taken can still be read, then it is over.
        let mut rest = Vec::new();
        let _ = client.stream.read_to_end(&mut rest);
        assert!(rest.len() < 8 << 20);
    }
    rig.turn();
    assert_eq!(rig.metrics.response_memory_bytes.get(), 0);
}

#[test]
fn who_leaves_while_memory_for_answers_is_short_is_noticed_before_others_have_to_go() {
    const ANSWER: usize = 8 << 20;
    for how in [Leave::Close, Leave::Half, Leave::Reset] {
        let rig = Rig::start(Limits { response_bytes_max: 2 * ANSWER, ..wide_limits() });
        let mut mute = rig.client();
        mute.send(FILL, 1, &(ANSWER as u32).to_be_bytes());
        rig.turn_until(|_| rig.metrics.response_memory_bytes.get() >= ANSWER as i64);
        let mut client = greeted(&rig, how);
        client.send(FILL, 2, &(ANSWER as u32).to_be_bytes());
        rig.turn();
        let half = leave(client, how);
        rig.turn_until(|seen| seen.disconnected.load(Ordering::SeqCst) == 1);
        assert!(rig.metrics.response_memory_bytes.get() >= ANSWER as i64, "somebody else had to go");
        drop((half, mute));
    }
}

#[test]
fn what_a_client_sent_is_carried_out_though_it_has_left_and_memory_for_answers_is_short() {
    const ANSWER: usize = 8 << 20;
    let large = (ANSWER as u32).to_be_bytes();
    for how in [Leave::Close, Leave::Half] {
        let rig = Rig::start(Limits { response_bytes_max: 2 * ANSWER, ..wide_limits() });
        let mut mute = rig.client();
        mute.send(FILL, 1, &large);
        rig.turn_until(|_| rig.metrics.response_memory_bytes.get() >= ANSWER as i64);
        let mut client = greeted(&rig, how);
        let unanswered = request(PRODUCE, 3, b"0");
        client.stream.write_all(&[request(FILL, 2, &large), unanswered.repeat(10)].concat()).unwrap();
        let half = leave(client, how);
        rig.turn_until(|seen| seen.requests.load(Ordering::SeqCst) == 13);
        rig.turn_until(|seen| seen.disconnected.load(Ordering::SeqCst) == 1);
        assert_eq!(rig.metrics.response_memory_bytes.get() / ANSWER as i64, 1, "its answer is not kept");
        drop((half, mute));
    }
}

#[test]
fn what_a_client_sent_behind_answers_that_it_does_not_read_is_carried_out() {
    let rig = Rig::start(Limits { linger_us: 100_000, ..wide_limits() });
    let mut client = greeted(&rig, Leave::Half);
    let much = request(FILL, 2, &(8u32 << 20).to_be_bytes());
    client.stream.write_all(&[much, request(PRODUCE, 3, b"0")].concat()).unwrap();
    let half = leave(client, Leave::Half);
    rig.turn_until(|seen| seen.requests.load(Ordering::SeqCst) == 3);
    rig.turn_until(|seen| seen.disconnected.load(Ordering::SeqCst) == 1);
    drop(half);
}

#[test]
fn who_leaves_while_memory_for_requests_is_short_is_noticed() {
    let rig = Rig::start(Limits { request_bytes_max: 1 << 20, ..wide_limits() });
    let whole = request(ECHO, 1, &[1; 600 << 10]);
    let mut clients: Vec<Client> = (0..8).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.stream.write_all(&whole[..300 << 10]).unwrap();
    }
    rig.turn_until(|_| rig.metrics.request_memory_bytes.get() >= (1 << 20) / 4 * 3);
    let half: Vec<Client> = clients
        .into_iter()
        .enumerate()
        .filter_map(|(at, client)| leave(client, if at % 2 == 0 { Leave::Close } else { Leave::Half }))
        .collect();
    rig.turn_until(|seen| seen.disconnected.load(Ordering::SeqCst) == 8);
    drop(half);
}

#[test]
fn idle_connections_are_closed_whatever_waits_on_them() {
    let rig = Rig::start(Limits { idle_us: Some(100_000), ..wide_limits() });
    let mut idle = rig.client();
    let mut waiting = rig.client();
    waiting.send(PARK, 1, &LONG_MS);
    let mut held = rig.client();
    held.stream.write_all(&[request(PARK, 1, &LONG_MS), request(ECHO, 2, b"behind")].concat()).unwrap();
    let mut incomplete = rig.client();
    incomplete.stream.write_all(&request(ECHO, 1, b"half")[..7]).unwrap();
    for client in [&mut idle, &mut waiting, &mut held, &mut incomplete] {
        assert!(client.is_closed());
    }
    rig.turn_until(|seen| seen.disconnected.load(Ordering::SeqCst) == 4);
}

/// It was written with the next group only, whenever somebody else came, and so long others waited for it.
#[test]
fn what_a_client_leaves_behind_is_written_though_nobody_else_comes() {
    let rig = Rig::start(wide_limits());
    rig.seen.wills.store(true, Ordering::SeqCst);
    for how in [Leave::Close, Leave::Half] {
        let half = leave(greeted(&rig, how), how);
        let group = rig.groups.recv_timeout(Duration::from_secs(20)).expect("a group, without another event");
        rig.written(&group);
        drop(half);
    }
}
