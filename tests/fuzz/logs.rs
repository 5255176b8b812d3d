//! Owns the fuzzing of recovery, of what readers get afterwards, and of what `chronik wal verify` says: over a data directory
//! with damaged files.
//!
//! The first byte says whether checksums are made right after the damage, the rest is a row of changes (`damage`). Where they are
//! not, nothing but the truth may come out: what is read is what was written, what is lost in silence was the torn end, and a
//! directory that is called sound is whole.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use chronik::cli::failure::Failure;
use chronik::cli::survey::{Survey, Taker};
use chronik::sys::disk::Disk;
use chronik::wal::format::{GROUP_HEADER_BYTES, RUN_META};
use chronik::wal::inspect::{self, Item};
use chronik::wal::{segment, GroupSeq, MetaEntry, PartitionId, RunRef};
use chronik::wire::batch::batches;
use chronik::wire::Uuid;

use super::damage::{self, Change};
use super::image::{disk_of, image, read, Batches};
use super::life::{Fetched, Life};

/// Where a group stands, without the zeros behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub file: String,
    pub position: usize,
    pub len: usize,
}

impl Group {
    /// Whether its bytes are other ones than in the image, or gone.
    pub fn is_touched(&self, files: &BTreeMap<String, Vec<u8>>) -> bool {
        let range = self.position..self.position + self.len;
        files.get(&self.file).and_then(|bytes| bytes.get(range.clone())) != image().files[&self.file].get(range)
    }
}

/// Where everything stands in the image.
#[derive(Default)]
pub struct Places {
    /// The groups of the log, in order.
    pub log: Vec<Group>,
    /// The groups that hold each batch, by partition and base offset.
    pub batches: BTreeMap<(Uuid, i32, i64), Vec<Group>>,
}

/// Found out once.
pub fn places() -> &'static Places {
    static PLACES: OnceLock<Places> = OnceLock::new();
    PLACES.get_or_init(|| {
        let disk = disk_of(&image().files);
        let mut places = Places::default();
        for (id, _) in [segment::list_packs(&disk).unwrap(), segment::list(&disk).unwrap()].concat() {
            let view = inspect::open(&disk, id, None).unwrap();
            let mut take = |item: Item<'_>| -> std::io::Result<()> {
                let Item::Group(found) = item else { panic!("the image is whole") };
                let group = Group {
                    file: segment::path(id),
                    position: found.position as usize,
                    len: GROUP_HEADER_BYTES + found.header.len as usize,
                };
                for run in found.runs.iter().filter(|run| run.header.kind != RUN_META) {
                    for batch in batches(run.content).map(Result::unwrap) {
                        let PartitionId { topic, partition } = run.header.id;
                        let key = (topic, partition, batch.header.base_offset);
                        places.batches.entry(key).or_default().push(group.clone());
                    }
                }
                if !id.is_pack() {
                    places.log.push(group);
                }
                Ok(())
            };
            view.walk(false, &mut take).unwrap();
        }
        places
    })
}

/// The files that damage may strike: all but the ballast, which holds nothing.
fn targets() -> Vec<&'static String> {
    image().files.keys().filter(|path| *path != "chronik.reserve").collect()
}

/// The image after a row of changes.
pub fn damaged(row: &[u8]) -> (BTreeMap<String, Vec<u8>>, Vec<Change>) {
    let changes = damage::read(row, &targets());
    let mut files = image().files.clone();
    damage::apply(&mut files, &changes);
    (files, changes)
}

pub fn run(input: &[u8]) {
    let Some((&flags, row)) = input.split_first() else { return };
    let (mut files, changes) = damaged(row);
    let is_resealed = flags & 1 != 0;
    if is_resealed {
        for (path, _) in &changes {
            if let Some(bytes) = files.get_mut(path) {
                damage::reseal(path, bytes);
            }
        }
    }
    let is_sound = survey(&files, is_resealed);
    let disk = disk_of(&files);
    let found = Life::start(&disk, 3).map(|mut life| read(&mut life, &image().topics));
    if is_resealed {
        return;
    }
    match found {
        Err(why) => assert!(!is_sound, "it is called sound, and no server starts on it: {why}"),
        Ok(found) => {
            for ((id, partition), fetched) in &found {
                check(&files, *id, *partition, fetched, is_sound);
            }
        }
    }
}

/// What a reader gets of a partition against what was there.
fn check(files: &BTreeMap<String, Vec<u8>>, id: Uuid, partition: i32, fetched: &Fetched, is_sound: bool) {
    let (found, code) = fetched;
    let whole = &image().whole[&(id, partition)];
    let first = whole.keys().next().copied().unwrap_or(0);
    let found: Batches = found.range(first..).map(|(base, batch)| (*base, batch.clone())).collect();
    let next = found.values().map(|(last, _)| last + 1).max().unwrap_or(first);
    let wanted: Batches = whole.range(..next).map(|(base, batch)| (*base, batch.clone())).collect();
    assert!(found == wanted, "partition {partition} has other records than were written");
    let Some((base, _)) = whole.range(next..).next() else { return };
    assert!(!is_sound, "it is called sound, and offset {base} of partition {partition} is missing");
    let places = &places().batches[&(id, partition, *base)];
    if *code != 0 {
        let is_changed = |group: &Group| files.get(&group.file) != image().files.get(&group.file);
        assert!(places.iter().any(is_changed), "offset {base} cannot be read from a file that is whole: error {code}");
        return;
    }
    // Lost in silence: that was the end of the log, and nothing behind it could tell.
    let own = places.iter().find(|group| group.file.starts_with("wal/"));
    let at = own.and_then(|own| self::places().log.iter().position(|group| group == own));
    let at = at.unwrap_or_else(|| panic!("offset {base} was in a pack and is lost in silence"));
    let untouched = self::places().log[at..].iter().find(|group| !group.is_touched(files));
    assert_eq!(untouched, None, "offset {base} is lost in silence, and this group could have told");
}

/// Takes note of every batch that is handed on.
#[derive(Default)]
pub struct Handed {
    pub batches: BTreeMap<(Uuid, i32, i64), Vec<u8>>,
}

impl Taker for Handed {
    fn meta(&mut self, _: GroupSeq, _: MetaEntry) -> Result<(), Failure> {
        Ok(())
    }

    fn run(&mut self, _: GroupSeq, run: RunRef, content: &[u8]) -> Result<(), Failure> {
        for batch in batches(content).map(Result::unwrap) {
            let key = (run.id.topic, run.id.partition, batch.header.base_offset);
            self.batches.insert(key, batch.bytes[16..].to_vec());
        }
        Ok(())
    }
}

/// What the tool says of the directory: whether it is sound, torn ends included.
fn survey(files: &BTreeMap<String, Vec<u8>>, is_resealed: bool) -> bool {
    let disk = disk_of(files);
    let mut handed = Handed::default();
    let Ok(survey) = Survey::all(&disk, &mut handed) else { panic!("the tool ends with a failure") };
    if !is_resealed {
        for ((id, partition, base), bytes) in &handed.batches {
            let whole = image().whole.get(&(*id, *partition));
            if let Some((_, wanted)) = whole.and_then(|whole| whole.get(base)) {
                assert!(bytes == wanted, "offset {base} of partition {partition} is handed on as something else");
            }
        }
    }
    survey.findings.is_empty()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let count = targets().len() as u8;
    let mut seeds = Vec::new();
    for flags in 0..2 {
        for file in 0..count {
            for kind in [0u8, 5, 8, 10, 12, 13, 15] {
                let at = [0, kind.wrapping_mul(37), file.wrapping_mul(91)];
                seeds.push([&[flags, file, kind][..], &at, &[file | 1, 0xff, 7, 1, 2, 3, 4, 5, 6, 7]].concat());
            }
        }
    }
    seeds
}

#[test]
fn the_whole_image_is_called_sound_and_read_whole() {
    run(&[0]);
    assert!(survey(&image().files, false));
    assert!(places().log.len() > 100);
    let disk = disk_of(&image().files);
    assert!(disk.list("wal").is_ok());
}
