//! Owns the tests that drive one group to its bounds.

use chronik::limits;

use super::consumer::Beat;
use super::*;

#[test]
fn ids_that_are_promised_in_a_group_are_bounded_and_make_room_again() {
    let mut w = World::new();
    let ids: Vec<String> = (0..limits::CONSUMER_GROUP_MEMBERS_MAX).map(|_| w.new_id(&Join::default())).collect();
    assert_eq!(w.join_now(&Join::default()).error, ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!(w.join_now(&Join::default().with_id(&ids[0])).error, ErrorCode::NONE, "who has one comes in");
    w.new_id(&Join::default());
    assert_eq!(w.join_now(&Join::default()).error, ErrorCode::GROUP_MAX_SIZE_REACHED);
    w.pass_ms(Join::default().session_ms as u64);
    w.new_id(&Join::default());
}

/// No setting bounds it: `group.max.size` is as large as it can be.
#[test]
fn members_of_a_classic_group_are_bounded_without_a_setting() {
    let mut w = World::new();
    let small = Join { protocols: vec![("r".into(), Vec::new())], version: 3, ..Join::default() };
    let tickets: Vec<Ticket> = (0..=limits::CONSUMER_GROUP_MEMBERS_MAX).map(|_| w.join(&small)).collect();
    let answered: Vec<Ticket> = tickets.into_iter().filter(|ticket| w.is_answered(*ticket)).collect();
    let refused = answered.into_iter().map(|ticket| w.joined(ticket).error);
    let refused: Vec<ErrorCode> = refused.filter(|error| *error != ErrorCode::NONE).collect();
    assert!(!refused.is_empty() && refused.iter().all(|error| *error == ErrorCode::GROUP_MAX_SIZE_REACHED));
}

#[test]
fn members_of_a_consumer_group_are_bounded_without_a_setting() {
    let mut w = World::new();
    let most = limits::CONSUMER_GROUP_MEMBERS_MAX;
    let join = |w: &mut World, number: usize| w.beat(&Beat::join(&format!("m{number}"), &["t"])).error;
    for number in 0..most {
        assert_eq!(join(&mut w, number), ErrorCode::NONE, "{number}");
    }
    assert_eq!(join(&mut w, most), ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!(join(&mut w, 0), ErrorCode::NONE, "who is in comes again");
    w.leave_consumer("m1");
    assert_eq!(join(&mut w, most), ErrorCode::NONE);
}

#[test]
fn a_consumer_group_is_bounded_in_memory() {
    let mut w = World::new();
    let names: Vec<String> = (0..2000).map(|number| format!("{number:0>200}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let join = |w: &mut World, number: usize| w.beat(&Beat::join(&format!("m{number}"), &names)).error;
    let each = 2000 * 248;
    let most = limits::CONSUMER_GROUP_MEMORY_BYTES_MAX / each;
    let taken = (0..=most).take_while(|number| join(&mut w, *number) == ErrorCode::NONE).count();
    assert!((most / 2..=most).contains(&taken), "{taken} members");
    assert_eq!(join(&mut w, taken), ErrorCode::GROUP_MAX_SIZE_REACHED);
    w.joined_consumer("small", &[]);
    w.leave_consumer("m0");
    assert_eq!(join(&mut w, taken), ErrorCode::NONE);
    // One that names more than half of what an entry of the log holds is refused in an empty group, too.
    let mut w = World::new();
    let many = [names.as_slice(), &names, &names].concat();
    assert_eq!(w.beat(&Beat::join("m", &many)).error, ErrorCode::GROUP_MAX_SIZE_REACHED);
}

#[test]
fn of_what_a_member_calls_itself_only_so_much_is_kept() {
    let most = limits::CONSUMER_GROUP_CLIENT_BYTES_MAX;
    let mut w = World::new();
    let long = "é".repeat(most);
    let joined = w.join_now(&Join::default().with_instance(&long));
    assert_eq!(joined.error, ErrorCode::NONE);
    assert!(joined.member_id.starts_with(&"é".repeat(most / 2)), "{}", joined.member_id);
    assert!(joined.member_id.len() <= most + 37);
    let mut w = World::new();
    let longest = "m".repeat(most);
    w.joined_consumer(&longest, &["t"]);
    let refused = w.beat(&Beat::join(&(longest.clone() + "m"), &["t"]));
    assert_eq!(refused.error, ErrorCode::INVALID_REQUEST);
    let refused = w.beat(&Beat::join("n", &["t"]).with_instance(&(longest + "m")));
    assert_eq!(refused.error, ErrorCode::INVALID_REQUEST);
}
