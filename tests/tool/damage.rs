//! Owns damaged data directories: every kind of damage is reported with its file, its place and the records concerned.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronik::broker::checkpoint as snapshot;
use chronik::sys::disk::Disk;
use chronik::sys::lock::DirLock;
use chronik::sys::real_disk::{RealDisk, Writing};
use chronik::wal::settings::{LogOptions, MetadataStore};
use chronik::wal::{checkpoint, SegmentId, Written};
use chronik::wire::Uuid;

use super::{json, printed, stderr, tool};
use crate::codec::json::Json;
use crate::sim::rng::Rng;
use crate::wal::support::{entry, group, open, options, partition, Planner};

const FIRST: &str = "wal/00000000000000000001.log";
const SECOND: &str = "wal/00000000000000000002.log";

/// A data directory on the disk, left as kill -9 leaves it.
struct Dir {
    path: PathBuf,
    written: Vec<Written>,
    directory: Uuid,
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Dir {
    fn new(name: &str, groups: u64) -> Dir {
        Dir::with(name, groups, MetadataStore::Log, 1)
    }

    fn with(name: &str, groups: u64, metadata: MetadataStore, seed: u64) -> Dir {
        let path = std::env::temp_dir().join(format!("chronik-damage-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let disk = Dir::disk(&path);
        let tuned = LogOptions { metadata, ..options(seed) };
        let (mut recovered, _) = open(disk, tuned).unwrap();
        let mut planner = Planner::default();
        let one = |seq| {
            let runs = (0..3).map(|p| planner.run(partition(1, p), 2, 3, 500)).collect();
            let meta = vec![entry("s", &format!("k{seq}"), Some("v"))];
            recovered.writer.step(group(seq, meta, runs)).unwrap()
        };
        let written = (1..=groups).map(one).collect();
        Dir { path, written, directory: recovered.directory_id }
    }

    fn disk(path: &Path) -> Arc<dyn Disk> {
        Arc::new(RealDisk::open(path, Writing::Buffered).unwrap())
    }

    fn flip(&self, file: &str, position: u64) {
        let file = OpenOptions::new().read(true).write(true).open(self.path.join(file)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, position).unwrap();
        file.write_all_at(&[byte[0] ^ 1], position).unwrap();
    }

    fn bytes(&self, file: &str) -> Vec<u8> {
        fs::read(self.path.join(file)).unwrap()
    }

    fn put(&self, file: &str, bytes: &[u8]) {
        fs::write(self.path.join(file), bytes).unwrap();
    }

    fn verify(&self, code: i32) -> Json {
        json(&["wal", "verify", "-d", self.path.to_str().unwrap()], code)
    }

    /// The one finding that there is.
    fn finding(&self, code: i32) -> Found {
        let findings = self.findings(code);
        assert_eq!(findings.len(), 1, "{findings:#?}");
        findings.into_iter().next().unwrap()
    }

    fn findings(&self, code: i32) -> Vec<Found> {
        self.verify(code).list("findings").iter().map(Found::of).collect()
    }

    fn groups_in(&self, segment: u64) -> Vec<&Written> {
        self.written.iter().filter(|written| written.handle.segment == SegmentId::Wal(segment)).collect()
    }

    /// Where the groups of a segment end.
    fn groups_end(&self, segment: u64) -> u64 {
        let last = self.groups_in(segment).pop().unwrap();
        last.position + last.buf.len() as u64
    }
}

/// A finding as it is printed.
#[derive(Debug, PartialEq)]
struct Found {
    grade: String,
    file: String,
    position: u64,
    what: String,
    /// Partition, first and last offset.
    lost: Vec<(i32, i64, i64)>,
    metadata: bool,
}

impl Found {
    fn of(json: &Json) -> Found {
        let text = |name: &str| json.text(name).unwrap().to_owned();
        let extent = |json: &Json| {
            let number = |name: &str| json.text(name).unwrap().parse::<i64>().unwrap();
            assert_eq!(json.text("topic_id"), Some(Uuid([1; 16]).to_string().as_str()));
            (number("partition") as i32, number("first_offset"), number("last_offset"))
        };
        Found {
            grade: text("grade"),
            file: text("file"),
            position: text("position").parse().unwrap(),
            what: text("what"),
            lost: json.list("lost").iter().map(extent).collect(),
            metadata: text("metadata") == "true",
        }
    }

    fn place(&self) -> (&str, &str, u64) {
        (&self.grade, &self.file, self.position)
    }
}

/// What one group holds of each partition.
fn offsets_of_group(group: i64) -> Vec<(i32, i64, i64)> {
    (0..3).map(|p| (p, group * 6, group * 6 + 5)).collect()
}

#[test]
fn a_sound_directory_is_called_sound_and_nothing_is_changed_in_it() {
    let dir = Dir::new("sound", 40);
    let before: Vec<_> = [FIRST, SECOND, "chronik.dir"].map(|file| dir.bytes(file)).into();
    let report = dir.verify(0);
    assert_eq!((report.text("sound"), report.text("groups")), (Some("true"), Some("40")));
    assert_eq!(report.text("batches"), Some("240"));
    assert!(report.list("findings").is_empty());
    assert!(printed(&["wal", "verify", "-d", dir.path.to_str().unwrap()], 0).starts_with("sound: "));
    let after: Vec<_> = [FIRST, SECOND, "chronik.dir"].map(|file| dir.bytes(file)).into();
    assert!(before == after);
}

#[test]
fn a_flipped_bit_in_any_group_but_the_last_is_reported_with_exactly_the_batch_that_is_lost() {
    for victim in 0..4 {
        let dir = Dir::new("group", 5);
        // Behind the metadata and the first run's header: the first batch of partition 0.
        let at = dir.written[victim].runs[0].position + 100;
        dir.flip(FIRST, at);
        let found = dir.finding(1);
        assert_eq!(found.place(), ("damage", FIRST, dir.written[victim].position), "{found:?}");
        let first = victim as i64 * 6;
        assert_eq!((found.lost, found.metadata), (vec![(0, first, first + 2)], false));
    }
}

#[test]
fn a_damaged_group_header_costs_nothing_as_its_runs_prove_themselves() {
    let dir = Dir::new("header", 5);
    dir.flip(FIRST, dir.written[2].position + 44);
    let found = dir.finding(1);
    assert_eq!(found.place(), ("damage", FIRST, dir.written[2].position));
    assert!(found.lost.is_empty(), "{found:?}");
}

#[test]
fn a_group_that_is_overwritten_is_lost_with_all_its_records_and_its_metadata() {
    // Unsealed, what stood there shows by the gap that is left; sealed, by the index.
    for groups in [6, 40] {
        let dir = Dir::new("overwritten", groups);
        let victim = &dir.written[2];
        let file = OpenOptions::new().write(true).open(dir.path.join(FIRST)).unwrap();
        file.write_all_at(&vec![0xee; victim.buf.len()], victim.position).unwrap();
        let found = dir.finding(1);
        assert_eq!(found.place(), ("damage", FIRST, victim.position));
        assert_eq!((found.lost, found.metadata), (offsets_of_group(2), true));
    }
}

#[test]
fn bit_rot_in_the_very_last_group_counts_as_a_torn_end_and_not_as_damage() {
    let dir = Dir::new("last", 5);
    dir.flip(FIRST, dir.written[4].position + 200);
    let found = dir.finding(0);
    assert_eq!(found.place(), ("torn", FIRST, dir.written[4].position));
}

#[test]
fn damage_in_a_sealed_segment_is_damage_even_in_its_last_group() {
    let dir = Dir::new("sealed", 40);
    let last = dir.groups_in(1).pop().unwrap();
    dir.flip(FIRST, last.runs[2].position + 100);
    let found = dir.finding(1);
    assert_eq!(found.place(), ("damage", FIRST, last.position));
    assert_eq!(found.lost.len(), 1, "{found:?}");
}

#[test]
fn a_damaged_trailer_page_or_directory_costs_no_record() {
    let dir = Dir::new("footer", 40);
    let (len, end) = (dir.bytes(FIRST).len() as u64, dir.groups_end(1));
    for (at, position) in [(len - 20, end), (end + 50, end), (end + 4096 + 3, end + 4096)] {
        dir.flip(FIRST, at);
        let found = dir.finding(1);
        assert_eq!(found.place(), ("index", FIRST, position), "{found:?}");
        assert_eq!((found.lost.len(), found.metadata), (0, false));
        dir.flip(FIRST, at);
    }
    assert!(dir.findings(0).is_empty());
}

#[test]
fn a_missing_segment_is_named_with_the_offsets_that_go_with_it() {
    for missing in [1, 2] {
        let dir = Dir::new("missing", 60);
        let file = format!("wal/{missing:020}.log");
        fs::remove_file(dir.path.join(&file)).unwrap();
        let found = dir.finding(1);
        assert_eq!((found.grade.as_str(), found.file.as_str()), ("damage", file.as_str()));
        if missing == 2 {
            let gone: Vec<_> = dir.groups_in(2).iter().map(|written| written.seq as i64 - 1).collect();
            let (first, last) = (gone[0] * 6, gone[gone.len() - 1] * 6 + 5);
            assert_eq!(found.lost, [(0, first, last), (1, first, last), (2, first, last)]);
        }
    }
}

#[test]
fn a_sealed_segment_that_is_cut_short_is_reported_where_it_ends() {
    let dir = Dir::new("cut", 60);
    let victim = dir.groups_in(1)[2].position;
    let file = OpenOptions::new().write(true).open(dir.path.join(FIRST)).unwrap();
    file.set_len(victim).unwrap();
    let found = dir.finding(1);
    assert_eq!(found.place(), ("damage", FIRST, victim));
    let last = dir.groups_in(1).pop().unwrap().seq as i64 * 6 - 1;
    assert_eq!(found.lost, [(0, 12, last), (1, 12, last), (2, 12, last)]);
}

#[test]
fn segments_that_do_not_belong_there_are_told_apart() {
    let (dir, other) = (Dir::new("own", 60), Dir::with("other", 60, MetadataStore::Log, 2));
    let own = dir.bytes(SECOND);
    dir.put(SECOND, &other.bytes(SECOND));
    let found = dir.finding(1);
    assert_eq!(found.place(), ("damage", SECOND, 0));
    assert!(found.what.contains("another data directory") && !found.lost.is_empty(), "{found:?}");
    dir.put(SECOND, &own);
    assert!(dir.findings(0).is_empty());
    dir.put("wal/00000000000000000003.log", &own);
    let found = &dir.findings(1)[0];
    assert_eq!(found.place(), ("damage", "wal/00000000000000000003.log", 0));
    assert!(found.what.contains("wal/00000000000000000002.log under another name"), "{found:?}");
}

#[test]
fn a_damaged_segment_header_is_reported_and_its_groups_are_read_all_the_same() {
    let dir = Dir::new("seghead", 40);
    dir.flip(FIRST, 30);
    let found = dir.finding(1);
    assert_eq!(found.place(), ("damage", FIRST, 0));
    assert!(found.lost.is_empty(), "{found:?}");
    assert_eq!(dir.verify(1).text("groups"), Some("40"));
}

#[test]
fn a_newer_format_is_said_to_be_one() {
    let dir = Dir::new("newer", 1);
    let mut bytes = dir.bytes(FIRST);
    bytes[9] = 2;
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_be_bytes());
    dir.put(FIRST, &bytes);
    assert!(dir.findings(1)[0].what.contains("format 2"));
    let dir = Dir::new("newer-marker", 1);
    let marker = String::from_utf8(dir.bytes("chronik.dir")).unwrap();
    dir.put("chronik.dir", marker.replace("format 1", "format 9").as_bytes());
    let found = dir.finding(1);
    assert_eq!((found.file.as_str(), found.what.contains("format 9")), ("chronik.dir", true));
}

#[test]
fn a_missing_or_damaged_marker_is_reported_and_the_segments_are_read() {
    let dir = Dir::new("marker", 3);
    let marker = dir.bytes("chronik.dir");
    fs::remove_file(dir.path.join("chronik.dir")).unwrap();
    let found = dir.finding(1);
    assert_eq!((found.place(), found.what.as_str()), (("damage", "chronik.dir", 0), "it is missing"));
    dir.put("chronik.dir", &marker[..20]);
    assert_eq!(dir.finding(1).file, "chronik.dir");
    assert_eq!(dir.verify(1).text("groups"), Some("3"));
}

/// The broker's bytes of an empty state.
fn empty_snapshot() -> Vec<u8> {
    let bytes = vec![0, 1, 1, 1, 0];
    assert!(snapshot::read(&bytes).is_ok());
    bytes
}

#[test]
fn damaged_checkpoints_are_reported_by_header_content_and_meaning() {
    let dir = Dir::new("checkpoint", 5);
    let disk = Dir::disk(&dir.path);
    let write = |group: usize, bytes: &[u8]| {
        let written = &dir.written[group];
        checkpoint::write(&*disk, dir.directory, written.seq, written.next, bytes).unwrap();
        checkpoint::path(written.seq)
    };
    let (older, newer) = (write(1, &empty_snapshot()), write(3, &empty_snapshot()));
    assert!(dir.findings(0).is_empty());
    for at in [0, 40, 72] {
        dir.flip(&newer, at);
        let found = dir.finding(1);
        assert_eq!(found.place(), ("index", newer.as_str(), 0), "byte {at}: {found:?}");
        dir.flip(&newer, at);
    }
    let bytes = dir.bytes(&older);
    dir.put(&newer, &bytes);
    assert!(dir.finding(1).what.contains("another checkpoint"));
    write(3, b"no state of a broker");
    let found = dir.finding(1);
    assert_eq!(found.place(), ("damage", newer.as_str(), 0));
}

#[test]
fn a_damaged_checkpoint_and_its_damaged_copy_are_both_reported() {
    let dir = Dir::new("copy", 5);
    let disk = Dir::disk(&dir.path);
    let written = &dir.written[1];
    checkpoint::write_twice(&*disk, dir.directory, written.seq, written.next, &empty_snapshot()).unwrap();
    let (path, copy) = (checkpoint::path(written.seq), checkpoint::copy_path(written.seq));
    assert!(dir.findings(0).is_empty());
    dir.flip(&path, 72);
    let found = dir.finding(1);
    assert_eq!(found.place(), ("index", path.as_str(), 0));
    assert!(found.what.ends_with("its copy is used"), "{found:?}");
    dir.flip(&copy, 72);
    let files: Vec<String> = dir.findings(1).into_iter().map(|finding| finding.file).collect();
    assert_eq!(files, [copy, path]);
}

#[test]
fn a_damaged_metadata_file_is_named() {
    let dir = Dir::with("files", 3, MetadataStore::Files, 1);
    assert!(dir.findings(0).is_empty());
    dir.flip("metadata/003-s", 30);
    let found = dir.finding(1);
    assert_eq!((found.place(), found.metadata), (("damage", "metadata/003-s", 0), true));
}

#[test]
fn random_bytes_anywhere_are_reported_and_never_end_the_tool() {
    let dir = Dir::new("random", 30);
    let path = format!("wal/{:020}.log", 1);
    let sound = dir.bytes(&path);
    for seed in 0..25 {
        let mut rng = Rng::new(seed);
        let mut bytes = sound.clone();
        for _ in 0..rng.range(1, 4) {
            let from = rng.index(bytes.len());
            let to = (from + rng.range(1, 6000) as usize).min(bytes.len());
            rng.fill(&mut bytes[from..to]);
        }
        if rng.chance(30) {
            bytes.truncate(rng.index(bytes.len() / 4096 + 1) * 4096);
        }
        dir.put(&path, &bytes);
        let output = tool(&["wal", "verify", "-d", dir.path.to_str().unwrap()]);
        // Padding and the room behind a footer hold nothing, so not all that is changed is damage.
        assert!(matches!(output.status.code(), Some(0 | 1)), "seed {seed}: {}", stderr(&output));
        assert_eq!(stderr(&output), "", "seed {seed}");
    }
}

#[test]
fn single_segments_are_listed_shown_and_checked() {
    let dir = Dir::new("segments", 40);
    let path = dir.path.to_str().unwrap();
    let listed = json(&["segment", "list", "-d", path], 0);
    let states: Vec<_> = super::items(&listed).iter().filter_map(|item| item.text("state")).collect();
    assert!(states.len() > 2 && states[0] == "sealed" && states.contains(&"open"), "{states:?}");
    let dumped = json(&["segment", "dump", "1", "-d", path], 0);
    let index = super::items(&dumped)[0].list("index");
    assert_eq!(index.len(), dir.groups_in(1).len() * 3);
    let file = dir.path.join(SECOND);
    json(&["segment", "verify", file.to_str().unwrap()], 0);
    json(&["segment", "verify", "-d", path], 0);
    dir.flip(SECOND, dir.groups_in(2)[1].position + 100);
    let report = json(&["segment", "verify", file.to_str().unwrap()], 1);
    let found = Found::of(&report.list("findings")[0]);
    assert_eq!((found.file.as_str(), found.position), (file.to_str().unwrap(), dir.groups_in(2)[1].position));
    json(&["segment", "verify", "1", "-d", path], 0);
    json(&["segment", "verify", "2", "-d", path], 1);
    printed(&["segment", "dump", "99", "-d", path], 3);
    printed(&["segment", "dump", "no-such-file"], 3);
}

#[test]
fn the_dump_shows_each_group_once_and_in_order() {
    let dir = Dir::new("dump", 20);
    let path = dir.path.to_str().unwrap();
    let lines = printed(&["wal", "dump", "-d", path, "-o", "json"], 0);
    let groups: Vec<Json> = lines.lines().map(crate::codec::json::parse).collect();
    let numbers: Vec<_> = groups.iter().map(|group| group.text("group").unwrap().parse::<u64>().unwrap()).collect();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    assert_eq!((groups[4].list("runs").len(), groups[4].list("metadata").len()), (3, 1));
    let some = printed(&["wal", "dump", "-d", path, "-o", "json", "--from", "7", "--to", "9", "--meta"], 0);
    assert_eq!(some.lines().count(), 3);
    assert!(some.lines().all(|line| crate::codec::json::parse(line).list("runs").is_empty()));
    assert!(printed(&["wal", "dump", "-d", path, "--to", "1"], 0).contains("offsets 0 to 5 in 2 batches"));
}

#[test]
fn a_directory_in_use_is_refused_but_for_sealed_segments_and_one_that_is_none_is_not_there() {
    let dir = Dir::new("live", 40);
    let path = dir.path.to_str().unwrap();
    let lock = DirLock::acquire(&dir.path).unwrap();
    for args in [&["wal", "verify"][..], &["wal", "dump"], &["wal", "repair", "--into", "/nowhere/at/all"]] {
        let output = tool(&[args, &["-d", path]].concat());
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(stderr(&output).contains("in use"), "{}", stderr(&output));
    }
    let output = tool(&["segment", "verify", "-d", path]);
    assert!(output.status.success() && stderr(&output).contains("only sealed segments"), "{}", stderr(&output));
    let open = dir.written.last().unwrap().handle.segment.number().to_string();
    assert_eq!(tool(&["segment", "verify", &open, "-d", path]).status.code(), Some(1));
    drop(lock);
    printed(&["wal", "verify", "-d", "/no/such/folder"], 3);
    let empty = crate::net::process::TempDir::new("tool-empty");
    fs::create_dir(&empty.0).unwrap();
    printed(&["wal", "verify", "-d", empty.0.to_str().unwrap()], 3);
    assert_eq!(fs::read_dir(&empty.0).unwrap().count(), 0, "looking makes nothing");
}
