//! Owns topics that are created, deleted, made again and enlarged while groups consume them.

use super::*;

#[test]
fn new_partitions_are_assigned() {
    let mut w = world();
    w.pair();
    w.change_topic("t", 1, Some(10));
    let told = w.stay("a", 3);
    assert_eq!((told.epoch, count(&told.assignment.unwrap())), (4, 5));
    assert_eq!(count(&w.stay("b", 3).assignment.unwrap()), 5);
    assert_eq!(w.describe_consumer(G).epoch, 4, "one rebalance for all");
}

#[test]
fn a_topic_that_comes_later_is_assigned() {
    let mut w = world();
    let (epoch, none) = w.joined_consumer("a", &["later"]);
    assert_eq!(count(&none), 0);
    w.change_topic("other", 7, Some(3));
    assert_eq!(w.stay("a", epoch).epoch, epoch, "others' topics are nothing to it");
    w.change_topic("later", 8, Some(3));
    let told = w.stay("a", epoch);
    assert_eq!((told.epoch, count(&told.assignment.unwrap())), (epoch + 1, 3));
}

#[test]
fn a_topic_that_is_deleted_is_taken_away() {
    let mut w = world();
    let (epoch, all) = w.joined_consumer("a", &["t", "u"]);
    assert_eq!(count(&all), 16);
    w.change_topic("u", 2, None);
    let told = w.stay("a", epoch);
    let left = told.assignment.unwrap();
    assert_eq!((told.epoch, count(&left)), (epoch, 8), "it is to let go of what is no longer there");
    assert_eq!(w.beat(&Beat::stay("a", epoch).owning(&left)).epoch, epoch + 1);
}

#[test]
fn a_topic_that_is_made_again_is_another_one() {
    let mut w = world();
    let (epoch, all) = w.joined_consumer("a", &["t"]);
    w.change_topic("t", 1, None);
    w.change_topic("t", 9, Some(8));
    let told = w.stay("a", epoch);
    assert_eq!(told.assignment, Some(parts(&[])), "all of the old topic goes");
    let told = w.beat(&Beat::stay("a", epoch).owning(&parts(&[])));
    let new = parts(&[("t@9", &all["t"])]);
    assert_eq!((told.epoch, told.assignment), (epoch + 1, Some(new)), "then all of the new one comes");
    assert_eq!(w.stay("a", epoch + 1).epoch, epoch + 1);
}

#[test]
fn nothing_happens_while_nobody_asks() {
    let mut w = world();
    w.pair();
    let (entries, next_us) = (w.given.log.len(), w.groups.deadline_us());
    for n in 0..100 {
        w.change_topic("t", 1, Some(8 + n));
    }
    assert_eq!((w.given.log.len(), w.groups.deadline_us()), (entries, next_us), "no entry, no timer");
    assert_eq!(w.stay("a", 3).epoch, 4);
}

#[test]
fn a_change_while_the_server_was_down_is_noticed() {
    let mut w = world();
    w.pair();
    w.restart();
    assert_eq!(w.stay("a", 3).epoch, 3, "nothing changed");
    w.restart();
    w.topics.0.insert("t".into(), (Uuid([1; 16]), 10));
    assert_eq!(count(&w.stay("a", 3).assignment.unwrap()), 5);
}
