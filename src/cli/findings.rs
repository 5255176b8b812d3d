//! Owns what is told about damage: where it is, what it is, and which records are concerned.

use super::datadir::Names;
use super::failure::Failure;
use super::output::{safe, Out};
use super::value::{object, Value};
use crate::wal::PartitionId;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// Something that had been durable is damaged or missing.
    Damage,
    /// An index or a spare copy is damaged; the records tell the same, and the server goes on.
    Index,
    /// The end of the log was being written when the server was stopped; nobody was promised what stood there.
    Torn,
}

impl Grade {
    fn word(self) -> &'static str {
        match self {
            Grade::Damage => "damage",
            Grade::Index => "index",
            Grade::Torn => "torn",
        }
    }
}

/// Offsets of one partition, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    pub id: PartitionId,
    pub first: i64,
    pub last: i64,
}

/// One place that is not as it should be.
#[derive(Clone, Debug)]
pub struct Finding {
    pub grade: Grade,
    /// Path below the data directory.
    pub file: String,
    pub position: u64,
    /// How many bytes from there on are concerned; 0 when that is not known.
    pub bytes: u64,
    /// A sentence without its full stop.
    pub what: String,
    /// Records that cannot be read.
    pub lost: Vec<Extent>,
    /// Changes of metadata are lost, or may be.
    pub metadata: bool,
    /// Nothing that is left tells all the records that stood there: more may be lost than is named.
    pub unnamed: bool,
}

impl Finding {
    pub fn new(grade: Grade, file: impl Into<String>, position: u64, what: impl Into<String>) -> Finding {
        let (file, what) = (file.into(), what.into());
        Finding { grade, file, position, bytes: 0, what, lost: Vec::new(), metadata: false, unnamed: false }
    }

    pub fn json(&self, names: &Names) -> Value {
        object([
            ("grade", self.grade.word().into()),
            ("file", self.file.as_str().into()),
            ("position", self.position.into()),
            ("bytes", self.bytes.into()),
            ("what", self.what.as_str().into()),
            ("lost", Value::List(self.lost.iter().map(|extent| extent.json(names)).collect())),
            ("metadata", self.metadata.into()),
            ("more_may_be_lost", self.unnamed.into()),
        ])
    }

    pub fn print(&self, out: &mut Out, names: &Names) -> Result<(), Failure> {
        let bytes = if self.bytes == 0 { String::new() } else { format!(" ({} bytes)", self.bytes) };
        let (grade, file, position) = (self.grade.word(), &self.file, self.position);
        out.line(&safe(&format!("{grade}: {file} at position {position}{bytes}: {}", self.what)))?;
        for extent in &self.lost {
            out.line(&safe(&format!("    lost: {}", extent.shown(names))))?;
        }
        if self.unnamed {
            out.line("    more records may be lost here that cannot be named")?;
        }
        if self.metadata {
            out.line("    changes of metadata (topics, settings, groups, committed offsets) may be lost with it")?;
        }
        Ok(())
    }
}

impl Extent {
    pub fn json(&self, names: &Names) -> Value {
        object([
            ("topic", names.name(self.id.topic).map(str::to_owned).into()),
            ("topic_id", self.id.topic.to_string().into()),
            ("partition", self.id.partition.into()),
            ("first_offset", self.first.into()),
            ("last_offset", self.last.into()),
        ])
    }

    pub fn shown(&self, names: &Names) -> String {
        let partition = names.partition(self.id);
        match self.first == self.last {
            true => format!("{partition}, offset {}", self.first),
            false => format!("{partition}, offsets {} to {}", self.first, self.last),
        }
    }
}

/// Sorts extents and joins those that touch or overlap.
pub fn joined(mut extents: Vec<Extent>) -> Vec<Extent> {
    extents.sort();
    let mut joined: Vec<Extent> = Vec::new();
    for extent in extents {
        match joined.last_mut() {
            Some(last) if last.id == extent.id && extent.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(extent.last);
            }
            _ => joined.push(extent),
        }
    }
    joined
}

/// The parts of `wanted` that none of the extents covers.
pub fn uncovered(wanted: Extent, extents: &[Extent]) -> Vec<Extent> {
    let covering = extents.iter().filter(|extent| extent.id == wanted.id).copied().collect();
    let mut parts = Vec::new();
    let mut first = wanted.first;
    for extent in joined(covering) {
        if extent.first > first && first <= wanted.last {
            parts.push(Extent { first, last: wanted.last.min(extent.first - 1), ..wanted });
        }
        first = first.max(extent.last.saturating_add(1));
    }
    if first <= wanted.last {
        parts.push(Extent { first, ..wanted });
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Uuid;

    fn extent(first: i64, last: i64) -> Extent {
        Extent { id: PartitionId { topic: Uuid([1; 16]), partition: 0 }, first, last }
    }

    #[test]
    fn extents_are_joined_and_what_they_leave_is_found() {
        let some = [extent(5, 6), extent(0, 1), extent(2, 2), extent(6, 9)];
        assert_eq!(joined(some.to_vec()), [extent(0, 2), extent(5, 9)]);
        assert_eq!(uncovered(extent(0, 12), &some), [extent(3, 4), extent(10, 12)]);
        assert!(uncovered(extent(1, 2), &some).is_empty());
        assert_eq!(uncovered(extent(3, 3), &some), [extent(3, 3)]);
        assert_eq!(uncovered(extent(0, 3), &[]), [extent(0, 3)]);
    }
}
