//! Owns the commands that ask brokers, against a real server on the loopback address.

use super::{items, json, printed, stderr, tool};
use crate::net::process::{Server, TempDir};

struct Online {
    server: Server,
    brokers: String,
    _dir: TempDir,
}

impl Online {
    fn start(name: &str) -> Online {
        let dir = TempDir::new(name);
        let server = Server::start(&dir.0, &[]);
        let brokers = server.address("Kafka protocol on").to_string();
        Online { server, brokers, _dir: dir }
    }

    fn args<'a>(&'a self, line: &'a str) -> Vec<&'a str> {
        line.split(' ').chain(["-b", &self.brokers]).collect()
    }

    fn run(&self, line: &str, code: i32) -> String {
        printed(&self.args(line), code)
    }

    fn json(&self, line: &str, code: i32) -> crate::codec::json::Json {
        json(&self.args(line), code)
    }

    fn stop(self) {
        assert!(self.server.stop().0.success());
    }
}

#[test]
fn topics_are_made_listed_described_changed_trimmed_and_deleted() {
    let online = Online::start("tool-topics");
    assert!(online.run("topic create orders -p 3 -c retention.ms=600000", 0).contains("created with 3 partitions"));
    assert_eq!(online.run("topic list -q", 0), "orders\n");
    let listed = online.json("topic list", 0);
    assert_eq!((items(&listed).len(), items(&listed)[0].text("partitions")), (1, Some("3")));

    let described = online.json("topic describe orders", 0);
    let topic = &items(&described)[0];
    assert_eq!(topic.list("partitions").len(), 3);
    assert_eq!(topic.list("partitions")[2].text("end_offset"), Some("0"));
    let own: Vec<_> = topic.list("configs").iter().map(|c| (c.text("name"), c.text("value"))).collect();
    assert_eq!(own, [(Some("retention.ms"), Some("600000"))]);
    assert!(items(&online.json("topic describe orders --all-configs", 0))[0].list("configs").len() > 20);

    online.run("topic add-partitions orders --to 5", 0);
    online.run("topic set orders max.message.bytes=5000 cleanup.policy=delete", 0);
    online.run("topic unset orders retention.ms", 0);
    let text = online.run("topic describe orders", 0);
    assert!(text.contains("partitions  5") && text.contains("max.message.bytes=5000"), "{text}");
    assert!(!text.contains("retention.ms"), "{text}");

    assert_eq!(online.run("topic trim orders --before end -p 1 -y", 0), "orders-1: begins at offset 0\n");
    assert!(online.run("topic delete orders --dry-run", 0).contains("would be deleted (dry run)"));
    assert_eq!(online.run("topic list -q", 0), "orders\n");
    online.run("topic delete orders --yes", 0);
    assert_eq!(online.run("topic list -q", 0), "");
    online.stop();
}

#[test]
fn what_cannot_be_done_is_said_on_standard_error_with_its_exit_code() {
    let online = Online::start("tool-refusals");
    online.run("topic create there", 0);
    for (line, code, said) in [
        ("topic create there", 1, "TOPIC_ALREADY_EXISTS"),
        ("topic describe missing", 3, "UNKNOWN_TOPIC_OR_PARTITION"),
        ("topic delete missing -y", 3, "UNKNOWN_TOPIC_OR_PARTITION"),
        ("topic trim missing --before 1 -y", 3, "UNKNOWN_TOPIC_OR_PARTITION"),
        ("topic trim there --before 1 -p 7 -y", 3, "no partition 7"),
        ("topic trim there --before 1 -y", 1, "OFFSET_OUT_OF_RANGE"),
        ("topic set there no.such=1", 1, "no.such"),
        ("topic add-partitions there --to 1", 1, "INVALID_PARTITIONS"),
        ("topic create x y -r 3", 1, "INVALID_REPLICATION_FACTOR"),
        ("group describe missing", 3, "no group missing"),
        ("topic delete there", 2, "--yes"),
    ] {
        let output = tool(&online.args(line));
        assert_eq!(output.status.code(), Some(code), "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{line}: {}", stderr(&output));
    }
    // One of two fails: the other is done, and the exit status tells.
    assert!(tool(&online.args("topic create new there")).status.code() == Some(1));
    assert_eq!(online.run("topic list -q", 0), "new\nthere\n");
    let output = online.json("topic create there", 1);
    assert_eq!(items(&output)[0].text("error"), Some("TOPIC_ALREADY_EXISTS"));
    online.run("topic create there --if-not-exists", 0);
    online.run("topic delete missing --if-exists -y", 0);
    online.run("topic create dry --dry-run", 0);
    assert_eq!(online.run("topic list -q", 0), "new\nthere\n");
    online.stop();
}

#[test]
fn the_cluster_and_its_groups_are_shown() {
    let online = Online::start("tool-cluster");
    let info = online.json("cluster info", 0);
    assert_eq!(info.list("brokers").len(), 1);
    assert!(info.text("cluster_id").is_some_and(|id| id.len() == 22));
    assert!(online.run("cluster info", 0).contains("127.0.0.1"));
    assert!(items(&online.json("group list", 0)).is_empty());
    online.stop();
}

#[test]
fn the_first_broker_that_answers_is_taken() {
    let online = Online::start("tool-bootstrap");
    // A port below the ephemeral ones, so that no server of another test is given it in between.
    let free = "127.0.0.1:1";
    let brokers = format!("{free},{}", online.brokers);
    let output = tool(&["topic", "list", "-b", &brokers]);
    assert!(output.status.success() && stderr(&output).contains("Cannot reach"), "{}", stderr(&output));
    online.stop();
}
