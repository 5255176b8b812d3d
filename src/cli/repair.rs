//! Owns `chronik wal repair`: everything readable of a damaged data directory goes into a new one, opened once as a server
//! would, so that what comes out is known to work. The damaged directory is only read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::datadir::{self, DataDir, Live};
use super::failure::{Failure, OK};
use super::findings::{uncovered, Extent};
use super::output::safe;
use super::parse::Args;
use super::rebuild::{self, Copying};
use super::sources::{self, Chosen, Pieces};
use super::survey::{Base, Survey, Taker};
use super::value::{object, Value};
use super::Session;
use crate::broker::topics::{self, TopicChange};
use crate::broker::{metalog, txn};
use crate::sys::disk::Disk;
use crate::sys::lock::DirLock;
use crate::sys::real_disk::{RealDisk, Writing};
use crate::wal::settings::MetadataStore;
use crate::wal::{GroupSeq, MetaEntry, PartitionId, RunRef};
use crate::wire::batch;
use crate::wire::Uuid;

/// Metadata by table, scope and key.
pub type Entries = BTreeMap<(u8, bytes::Bytes, bytes::Bytes), bytes::Bytes>;

/// What metadata comes to, and what the records show that it must have been.
#[derive(Default)]
pub struct Facts {
    pub entries: Entries,
    /// Groups up to this one are in the checkpoint already.
    base_seq: GroupSeq,
    in_files: bool,
    removed: BTreeSet<Uuid>,
    /// Topics that have records and no name, with the number of partitions seen.
    nameless: BTreeMap<Uuid, usize>,
    /// Highest partition of each topic that has records.
    partitions: BTreeMap<Uuid, usize>,
    producer_id_max: Option<i64>,
    /// Where sound batches stand.
    pub pieces: Pieces,
}

impl Facts {
    fn apply(&mut self, entry: MetaEntry) {
        let key = (entry.table, entry.scope, entry.key);
        match entry.value {
            Some(value) => {
                self.entries.insert(key, value);
            }
            None => {
                if key.0 == metalog::TOPIC {
                    self.removed.extend(<[u8; 16]>::try_from(&key.1[..]).map(Uuid));
                }
                self.entries.remove(&key);
            }
        }
    }

    fn topic_key(id: Uuid) -> (u8, bytes::Bytes, bytes::Bytes) {
        (metalog::TOPIC, bytes::Bytes::copy_from_slice(&id.0), bytes::Bytes::new())
    }
}

impl Taker for Facts {
    fn begin(&mut self, base: Option<&Base>, file_entries: &[MetaEntry]) {
        self.base_seq = base.map_or(0, |base| base.header.seq);
        let snapshot = base.iter().flat_map(|base| &base.snapshot.entries).filter(|_| !self.in_files);
        let known: Vec<MetaEntry> = snapshot.chain(file_entries).cloned().collect();
        known.into_iter().for_each(|entry| self.apply(entry));
    }

    fn meta(&mut self, seq: GroupSeq, entry: MetaEntry) -> Result<(), Failure> {
        if seq > self.base_seq && !self.in_files {
            self.apply(entry);
        }
        Ok(())
    }

    fn run(&mut self, seq: GroupSeq, run: RunRef, batches: &[u8]) -> Result<(), Failure> {
        self.pieces.entry(run.id).or_default().push(run);
        // Groups of packs are numbered on their own; with a checkpoint, packs hold nothing whose topic it does not know.
        let seq = match run.segment.is_pack() {
            true => GroupSeq::from(self.base_seq == 0),
            false => seq,
        };
        let topic = run.id.topic;
        let count = usize::try_from(run.id.partition).map_or(0, |partition| partition + 1);
        let seen = self.partitions.entry(topic).or_default();
        *seen = count.max(*seen);
        // What is older than the checkpoint and not in it was deleted before.
        if seq > self.base_seq && !self.entries.contains_key(&Facts::topic_key(topic)) {
            let seen = self.nameless.entry(topic).or_default();
            *seen = count.max(*seen);
        }
        let ids = batch::batches(batches).flatten().map(|batch| batch.header.producer_id);
        self.producer_id_max = self.producer_id_max.max(ids.max());
        Ok(())
    }
}

/// A living topic in the new directory.
pub struct Topic {
    partitions: usize,
    /// First offsets that clients may read, where records were deleted.
    starts: BTreeMap<i32, i64>,
}

/// What the new directory is to hold.
#[derive(Default)]
pub struct Plan {
    pub entries: Entries,
    pub topics: BTreeMap<Uuid, Topic>,
    /// What is copied of each partition, in the order of the offsets.
    pub chosen: BTreeMap<PartitionId, Vec<Chosen>>,
    /// Topics whose names are lost, with the names that they get.
    renamed: Vec<(Uuid, String)>,
}

impl Plan {
    /// Whether any record of a run belongs into the new directory.
    pub fn wants(&self, id: PartitionId, last_offset: i64) -> bool {
        self.topics.get(&id.topic).is_some_and(|topic| {
            let within = usize::try_from(id.partition).is_ok_and(|partition| partition < topic.partitions);
            within && topic.starts.get(&id.partition).is_none_or(|start| last_offset >= *start)
        })
    }

    fn of(facts: Facts, survey: &Survey) -> Result<Plan, Failure> {
        let mut plan =
            Plan { entries: facts.entries, chosen: sources::choose(&facts.pieces, survey), ..Plan::default() };
        // The new directory has no packs: their records go into its log, of which nothing is stored elsewhere.
        plan.entries.retain(|(table, _, _), _| !matches!(*table, metalog::PACK | metalog::OBJECT));
        let lost_metadata = survey.findings.iter().any(|finding| finding.metadata);
        for (id, partitions) in facts.nameless.iter().filter(|_| lost_metadata) {
            let is_known = facts.removed.contains(id) || plan.entries.contains_key(&Facts::topic_key(*id));
            if !is_known {
                let name = format!("recovered.{id}");
                let entry = topics::topic_entry(*id, &name, *partitions, &BTreeMap::new());
                plan.entries.insert(Facts::topic_key(*id), entry.value.unwrap_or_default());
                plan.renamed.push((*id, name));
            }
        }
        plan.read_topics(&facts.partitions, lost_metadata)?;
        plan.keep_producer_ids(facts.producer_id_max)?;
        Ok(plan)
    }

    fn read_topics(&mut self, seen: &BTreeMap<Uuid, usize>, lost_metadata: bool) -> Result<(), Failure> {
        let mut changed = Vec::new();
        let unreadable = |what: String| Failure::error(format!("Metadata cannot be read: {what}."));
        for ((table, scope, key), value) in &self.entries {
            if !matches!(*table, metalog::TOPIC | metalog::LOG_START) {
                continue;
            }
            let (scope, key, value) = (scope.clone(), key.clone(), Some(value.clone()));
            match topics::read_entry(&MetaEntry { table: *table, scope, key, value }).map_err(unreadable)? {
                TopicChange::Put { id, name, mut partitions, configs } => {
                    let needed = seen.get(&id).copied().unwrap_or(0);
                    if lost_metadata && needed > partitions {
                        partitions = needed;
                        changed.push(topics::topic_entry(id, &name, partitions, &configs));
                    }
                    self.topics.insert(id, Topic { partitions, starts: BTreeMap::new() });
                }
                TopicChange::LogStart { id, offset } => {
                    if let Some(topic) = self.topics.get_mut(&id.topic) {
                        topic.starts.insert(id.partition, offset);
                    }
                }
                _ => {}
            }
        }
        for entry in changed {
            self.entries.insert((entry.table, entry.scope, entry.key), entry.value.unwrap_or_default());
        }
        Ok(())
    }

    /// Ids that the records show are never handed out again, also when the entry that said so is lost.
    fn keep_producer_ids(&mut self, seen: Option<i64>) -> Result<(), Failure> {
        let mut ids = txn::ProducerIds::default();
        let key = (metalog::PRODUCER_IDS, bytes::Bytes::new(), bytes::Bytes::new());
        if let Some(value) = self.entries.get(&key) {
            let entry =
                MetaEntry { table: key.0, scope: key.1.clone(), key: key.2.clone(), value: Some(value.clone()) };
            ids.apply(&entry).map_err(|what| Failure::error(format!("Metadata cannot be read: {what}.")))?;
        }
        ids.is_taken(seen.unwrap_or(-1));
        self.entries.insert(key, ids.entry().value.unwrap_or_default());
        Ok(())
    }
}

/// `chronik wal repair`.
pub fn run(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let Some(into) = args.value("into").map(PathBuf::from) else {
        return Err(Failure::usage("Give the new data directory, with --into."));
    };
    let dir = datadir::open(session, args, Live::Refused)?;
    check_target(&dir, &into)?;
    let in_files = matches!(
        crate::wal::marker::Marker::load(&*dir.disk),
        Ok(Some(crate::wal::marker::Marker { metadata: MetadataStore::Files, .. }))
    );
    let mut facts = Facts { in_files, ..Facts::default() };
    let survey = Survey::all(&*dir.disk, &mut facts)?;
    if !survey.remote.is_empty() {
        return Err(Failure::error(format!(
            "{} segments are in object storage only, so a repair of what is here would lose their records. Make a new directory \
             from the store instead: chronik-server --restore-from, with the server's --storage settings.",
            survey.remote.len()
        )));
    }
    let plan = Plan::of(facts, &survey)?;
    let copied = match session.dry_run {
        true => None,
        false => Some(build(session, &dir, &into, &plan, &survey, in_files)?),
    };
    tell(session, &into, &plan, &survey, copied)
}

/// The target must be new, so that nothing is ever overwritten.
fn check_target(dir: &DataDir, into: &Path) -> Result<(), Failure> {
    let shown = into.display();
    match fs::read_dir(into).map(|items| items.count()) {
        Ok(1..) => Err(Failure::error(format!("{shown} is not empty; nothing is overwritten."))),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::file(&shown.to_string(), &error)),
        _ => {
            let inside = |path: &Path| fs::canonicalize(path).ok();
            let parent = into.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
            match (inside(parent), inside(&dir.path)) {
                (Some(parent), Some(source)) if parent.starts_with(&source) => {
                    Err(Failure::error(format!("{shown} lies in the data directory that is to be repaired.")))
                }
                (None, _) => Err(Failure::error(format!("The folder that {shown} is to be made in is not there."))),
                _ => Ok(()),
            }
        }
    }
}

/// Builds the new directory under another name and gives it its own at the end, so that half of one is never taken for
/// a whole.
fn build(
    session: &Session,
    dir: &DataDir,
    into: &Path,
    plan: &Plan,
    survey: &Survey,
    in_files: bool,
) -> Result<rebuild::Copied, Failure> {
    let mut partial = into.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let shown = partial.display().to_string();
    if partial.exists() {
        return Err(Failure::error(format!("{shown} is left from a repair that was interrupted; remove it first.")));
    }
    fs::create_dir(&partial).map_err(|error| Failure::file(&shown, &error))?;
    let filled = fill(session, dir, &partial, plan, survey, in_files);
    let result = filled.and_then(|copied| {
        let _ = fs::remove_dir(into);
        fs::rename(&partial, into).map_err(|error| Failure::file(&shown, &error))?;
        let parent = into.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(parent).and_then(|folder| folder.sync_all()).map_err(|error| Failure::file(&shown, &error))?;
        Ok(copied)
    });
    if result.is_err() {
        // It is this command's own, and holds nothing that is not in the damaged directory.
        let _ = fs::remove_dir_all(&partial);
    }
    result
}

fn fill(
    session: &Session,
    dir: &DataDir,
    target: &Path,
    plan: &Plan,
    survey: &Survey,
    in_files: bool,
) -> Result<rebuild::Copied, Failure> {
    let cannot = |error: std::io::Error| Failure::file("Cannot make the new data directory", &error);
    let _lock = DirLock::acquire(target).map_err(cannot)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(target, Writing::Auto).map_err(cannot)?);
    let cluster = survey.marker.as_ref().map(|marker| marker.cluster.clone());
    let mut copying = Copying::begin(disk.clone(), plan, in_files, cluster)?;
    copying.copy(&*dir.disk)?;
    let copied = copying.finish()?;
    session.out.detail("all is copied; the new directory is opened as a server does");
    rebuild::settle(disk, in_files)?;
    Ok(copied)
}

/// What of the losses concerns topics that are there, and records that had not been deleted anyway.
fn losses(plan: &Plan, survey: &Survey) -> Vec<Extent> {
    let mut lost = Vec::new();
    for mut extent in survey.lost() {
        let is_deleted = survey.names.name(extent.id.topic).is_some() && !plan.topics.contains_key(&extent.id.topic);
        let start = plan.topics.get(&extent.id.topic).and_then(|topic| topic.starts.get(&extent.id.partition));
        extent.first = extent.first.max(start.copied().unwrap_or(0));
        if !is_deleted {
            // Another segment may hold the same records.
            let chosen = plan.chosen.get(&extent.id).into_iter().flatten();
            let held: Vec<Extent> = chosen.map(|chosen| chosen.extent(extent.id)).collect();
            lost.extend(uncovered(extent, &held));
        }
    }
    lost
}

fn tell(
    session: &mut Session,
    into: &Path,
    plan: &Plan,
    survey: &Survey,
    copied: Option<rebuild::Copied>,
) -> Result<u8, Failure> {
    let lost = losses(plan, survey);
    let metadata = survey.findings.iter().any(|finding| finding.metadata);
    let unnamed = survey.findings.iter().any(|finding| finding.unnamed);
    let out = &mut session.out;
    let target = into.display().to_string();
    if out.is_json() {
        let renamed = plan
            .renamed
            .iter()
            .map(|(id, name)| object([("topic_id", id.to_string().into()), ("name", name.as_str().into())]));
        let findings = survey.findings.iter().map(|finding| finding.json(&survey.names));
        out.json(&object([
            ("into", target.into()),
            ("dry_run", copied.is_none().into()),
            ("topics", plan.topics.len().into()),
            ("batches", copied.map(|copied| copied.batches).into()),
            ("bytes", copied.map(|copied| copied.bytes).into()),
            ("lost", Value::List(lost.iter().map(|extent| extent.json(&survey.names)).collect())),
            ("more_may_be_lost", unnamed.into()),
            ("metadata_lost", metadata.into()),
            ("recovered_topics", Value::List(renamed.collect())),
            ("findings", Value::List(findings.collect())),
        ]))?;
        return Ok(OK);
    }
    for finding in &survey.findings {
        finding.print(out, &survey.names)?;
    }
    for extent in &lost {
        out.line(&safe(&format!("lost: {}", extent.shown(&survey.names))))?;
    }
    if lost.is_empty() {
        out.line("no record is known to be lost")?;
    }
    if unnamed {
        out.line("more records may be lost that cannot be named, in the places that say so")?;
    }
    if metadata {
        out.line("changes of metadata may be lost: look at topics, settings and committed offsets")?;
    }
    for (id, name) in &plan.renamed {
        out.line(&format!("the name of topic id {id} is lost; its records are in {name}"))?;
    }
    match copied {
        None => out.line(&format!("{} topics would be copied to {target} (dry run)", plan.topics.len()))?,
        Some(copied) => out.line(&format!(
            "{} topics, {} batches, {} bytes are in {target}; leader epochs are raised",
            plan.topics.len(),
            copied.batches,
            copied.bytes
        ))?,
    }
    Ok(OK)
}
