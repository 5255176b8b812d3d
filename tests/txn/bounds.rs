//! Owns the tests that drive the transaction coordinator to its bounds.

use chronik::limits;

use super::*;

#[test]
fn transactional_ids_are_bounded_in_memory_and_make_room_when_they_expire() {
    let mut h = Harness::new();
    let config = chronik::config::Config { transactional_id_expiration_ms: 600_000, ..Default::default() };
    h.restart_with(config);
    let name = |number: usize| format!("{number:0>30000}");
    let most = limits::TRANSACTIONAL_IDS_BYTES_MAX / 30_000;
    let taken = (0..=most + 1).take_while(|number| init(&mut h, 5, &name(*number), None).0 == ErrorCode::NONE).count();
    assert!((most - 50..=most + 1).contains(&taken), "{taken} ids");
    assert_eq!(init(&mut h, 5, "short", None).0, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(init(&mut h, 5, &name(0), None).0, ErrorCode::NONE, "whoever has one goes on");
    h.pass_ms(600_000);
    h.settle();
    assert_eq!(init(&mut h, 5, "short", None).0, ErrorCode::NONE);
}

#[test]
fn transactions_that_time_out_together_end_in_several_turns() {
    let each = limits::TRANSACTIONAL_IDS_PER_TURN_MAX;
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    for number in 0..2 * each + 10 {
        let mut producer = Producer::init(&mut h, &format!("x{number}"), NEW);
        producer.send(&mut h, "t", 0, &["a"]).unwrap();
    }
    let ongoing = |h: &mut Harness| {
        let request = ListTransactionsRequest { state_filters: vec!["Ongoing"], ..Default::default() };
        h.call(0, &request).decode::<ListTransactionsResponse<'_>>().transaction_states.len()
    };
    h.pass_ms(60_000);
    for left in [each + 10, 10, 0] {
        h.settle();
        assert_eq!(ongoing(&mut h), left);
        assert_eq!(
            h.broker.deadline_us().is_some_and(|at_us| at_us <= h.now.mono_us),
            left > 0,
            "the next is due at once"
        );
        h.pass_ms(0);
    }
    let (stable, end) = ends(&mut h, "t", 0);
    assert_eq!((stable, end), (2 * (2 * each as i64 + 10), end));
}

#[test]
fn a_transaction_takes_no_more_groups_than_fit_one_group_of_the_log() {
    let mut h = Harness::new();
    let producer = Producer::init(&mut h, "x", CLASSIC);
    let mut other = Producer::init(&mut h, "y", NEW);
    create_topic(&mut h, "t", 1);
    let name = |number: usize| format!("{number:0>4096}");
    let most = limits::TXN_END_BYTES_MAX / 4096;
    let added =
        (0..=most).take_while(|number| add_group(&mut h, 3, &producer, &name(*number)) == ErrorCode::NONE).count();
    assert!((most / 4..=most).contains(&added), "{added} groups");
    assert_eq!(add_group(&mut h, 3, &producer, &name(added)), ErrorCode::POLICY_VIOLATION);
    assert_eq!(add_group(&mut h, 3, &producer, &(name(0) + "0")), ErrorCode::INVALID_GROUP_ID);
    other.send(&mut h, "t", 0, &["a"]).unwrap();
    let before = h.log.groups.len();
    assert_eq!(end(&mut h, 3, &producer, true).0, ErrorCode::NONE);
    assert_eq!(h.log.groups.len(), before + 1);
    assert_eq!(add_group(&mut h, 3, &producer, &name(added)), ErrorCode::NONE, "the next one has room");
}
