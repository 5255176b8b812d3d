//! Owns what is told of consumer groups, by their own API and by those of classic groups.

use super::*;

impl World {
    /// Name, protocol type, state, type.
    pub fn listed(&mut self, states: &[&str], types: &[&str]) -> Vec<[String; 4]> {
        let request = ListGroupsRequest { states_filter: states.to_vec(), types_filter: types.to_vec() };
        self.ask(5, &request, |body, v| {
            let r: ListGroupsResponse<'_> = decode(body, v).unwrap();
            let one =
                |g: &ListedGroup<'_>| [g.group_id, g.protocol_type, g.group_state, g.group_type].map(String::from);
            r.groups.iter().map(one).collect()
        })
    }

    fn described_classic(&mut self, version: i16) -> (ErrorCode, Option<String>, String) {
        let request = DescribeGroupsRequest { groups: vec![G], ..Default::default() };
        self.ask(version, &request, |body, v| {
            let r: DescribeGroupsResponse<'_> = decode(body, v).unwrap();
            (r.groups[0].error_code, r.groups[0].error_message.map(String::from), r.groups[0].group_state.to_string())
        })
    }
}

#[test]
fn a_group_goes_through_its_states() {
    let mut w = world();
    w.joined_consumer("a", &["t"]);
    assert_eq!(w.describe_consumer(G).state, "Stable");
    w.joined_consumer("b", &["t"]);
    assert_eq!(w.describe_consumer(G).state, "Reconciling");
    w.leave_consumer("a");
    assert_eq!(w.describe_consumer(G).state, "Assigning");
    w.stay("b", 3);
    assert_eq!(w.describe_consumer(G).state, "Stable");
    w.leave_consumer("b");
    assert_eq!(w.describe_consumer(G).state, "Empty");
}

#[test]
fn members_are_told_with_what_they_have_and_shall_have() {
    let mut w = world();
    w.joined_consumer("a", &["t"]);
    w.joined_consumer("b", &["t"]);
    let described = w.describe_consumer(G);
    assert_eq!((described.error, described.assignor.as_str()), (ErrorCode::NONE, "uniform"));
    let [a, b] = &described.members[..] else { panic!("{described:?}") };
    assert_eq!((a.id.as_str(), a.epoch, count(&a.assigned), count(&a.target), a.kind), ("a", 2, 8, 4, 1));
    assert_eq!((b.id.as_str(), b.epoch, count(&b.assigned), count(&b.target), b.kind), ("b", 3, 0, 4, 1));
    assert_eq!(w.describe_consumer("nope").error, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(w.describe_consumer("").error, ErrorCode::INVALID_GROUP_ID);
}

#[test]
fn what_a_member_is_to_give_up_is_told_as_its_own_until_it_has() {
    let mut w = world();
    w.joined_consumer("a", &["t"]);
    w.joined_consumer("b", &["t"]);
    let kept = w.stay("a", 2).assignment.unwrap();
    assert_eq!((count(&kept), count(&w.describe_consumer(G).members[0].assigned)), (4, 8));
    w.beat(&Beat::stay("a", 2).owning(&kept));
    assert_eq!(count(&w.describe_consumer(G).members[0].assigned), 4);
}

#[test]
fn an_administrator_takes_members_out_by_the_classic_protocol() {
    let mut w = world();
    let (epoch, _) = w.joined_consumer("a", &["t"]);
    w.beat(&Beat::join("b", &["t"]).with_instance("i"));
    let left = w.leave(&[("nobody", None), ("", Some("j")), ("", Some("i")), ("a", None), ("a", None)]);
    let unknown = ErrorCode::UNKNOWN_MEMBER_ID;
    assert_eq!(left, [unknown, unknown, ErrorCode::NONE, ErrorCode::NONE, unknown]);
    assert_eq!(w.stay("a", epoch).error, unknown);
    let described = w.describe_consumer(G);
    assert_eq!((described.state.as_str(), described.members.len()), ("Empty", 0));
}

#[test]
fn the_describers_of_one_kind_do_not_know_the_other() {
    let mut w = world();
    w.joined_consumer("a", &["t"]);
    let words = Some("Group g is not a classic group.".to_string());
    assert_eq!(w.described_classic(6), (ErrorCode::GROUP_ID_NOT_FOUND, words, "Dead".into()));
    assert_eq!(w.described_classic(5), (ErrorCode::NONE, None, "Dead".into()));
    assert_eq!(w.commit_to("classic", "", -1, "t", 0, 1), ErrorCode::NONE);
    assert_eq!(w.describe_consumer("classic").error, ErrorCode::GROUP_ID_NOT_FOUND);
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut w = world();
    w.joined_consumer("a", &["t"]);
    w.commit_to("classic", "", -1, "t", 0, 1);
    let consumer = ["g", "consumer", "Stable", "consumer"].map(String::from);
    let classic = ["classic", "", "Empty", "classic"].map(String::from);
    assert_eq!(w.listed(&[], &[]), [classic.clone(), consumer.clone()]);
    assert_eq!(w.listed(&[], &["Consumer"]), std::slice::from_ref(&consumer));
    assert_eq!(w.listed(&["stable"], &[]), std::slice::from_ref(&consumer));
    assert_eq!(w.listed(&["Assigning", "Empty"], &[]), [classic]);
    assert_eq!(w.listed(&["Empty"], &["consumer"]), [[""; 4]; 0]);
}
