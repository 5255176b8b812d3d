//! Owns a partition that grows at random: what was written is kept beside what cleanings have left of it.

use std::collections::{BTreeMap, BTreeSet};

use chronik::wal::compact::{AbortedTxn, Clean, LastBatch, Outcome};
use chronik::wire::batch::{
    set_base_offset, stamp_log_append_time, BatchBuilder, BatchHeader, Compression, RecordHeader,
};
use chronik::wire::control::EndMarker;

use crate::sim::rng::Rng;

/// A record as it was written.
#[derive(Clone, Debug)]
pub struct Written {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: usize,
    /// The transaction that it belongs to, by its place in `txns`.
    pub txn: Option<usize>,
    /// When a cleaning first passed it.
    pub passed_ms: Option<i64>,
}

/// A transaction. `end` is its marker, and whether that committed it.
#[derive(Clone, Debug)]
pub struct Txn {
    pub producer_id: i64,
    pub first_offset: i64,
    pub end: Option<(i64, bool)>,
}

#[derive(Debug, Default)]
pub struct Producer {
    pub epoch: i16,
    pub sequence: i32,
    pub last_offset: Option<i64>,
    /// The transaction that is open.
    pub open: Option<usize>,
    pub transactional: bool,
}

#[derive(Debug)]
pub struct Partition {
    pub written: Vec<Written>,
    /// The head of every batch as it was written, by base offset.
    pub heads: BTreeMap<i64, BatchHeader>,
    pub txns: Vec<Txn>,
    pub producers: BTreeMap<i64, Producer>,
    /// What is left, in offset order.
    pub batches: Vec<Vec<u8>>,
    /// Where segments begin.
    pub segments: Vec<i64>,
    /// What readers are told of aborted transactions.
    pub aborted: Vec<AbortedTxn>,
    pub first_dirty: i64,
    pub next_offset: i64,
    pub now_ms: i64,
    pub delete_retention_ms: i64,
    keys: u64,
    keyless: bool,
}

impl Partition {
    pub fn new(rng: &mut Rng) -> Partition {
        let producers = (0..5).map(|id| (id, Producer { transactional: id % 2 == 0, ..Producer::default() }));
        Partition {
            written: Vec::new(),
            heads: BTreeMap::new(),
            txns: Vec::new(),
            producers: producers.collect(),
            batches: Vec::new(),
            segments: vec![0],
            aborted: Vec::new(),
            first_dirty: 0,
            next_offset: 0,
            now_ms: 1_700_000_000_000,
            delete_retention_ms: [0, 1000, 20_000][rng.index(3)],
            keys: [1, 5, 40][rng.index(3)],
            keyless: rng.one_in(5),
        }
    }

    /// A batch, the end of a transaction, a gap or a new segment.
    pub fn step(&mut self, rng: &mut Rng) {
        self.now_ms += rng.below(100) as i64;
        match rng.below(20) {
            0 => self.next_offset += rng.range(1, 50) as i64,
            1 => self.segments.push(self.next_offset),
            2..=5 => {
                let id = rng.below(5) as i64;
                self.end_txn(id, rng.chance(50));
            }
            6 => {
                let id = rng.below(5) as i64;
                self.fence(id);
            }
            _ => self.append(rng),
        }
        self.segments.dedup();
    }

    fn append(&mut self, rng: &mut Rng) {
        let id = rng.below(6) as i64;
        let base_offset = self.next_offset;
        let mut builder =
            BatchBuilder::new().leader_epoch(3).compression(Compression::ALL[rng.index(5)]).base_offset(base_offset);
        let mut txn = None;
        let count = rng.range(1, 6) as i32;
        if let Some(producer) = self.producers.get_mut(&id) {
            builder = builder.producer(id, producer.epoch, producer.sequence);
            if producer.transactional {
                builder = builder.transactional();
                let (txns, first_offset) = (&mut self.txns, base_offset);
                txn = Some(*producer.open.get_or_insert_with(|| {
                    txns.push(Txn { producer_id: id, first_offset, end: None });
                    txns.len() - 1
                }));
            }
            producer.sequence += count;
            producer.last_offset = Some(base_offset + i64::from(count) - 1);
        }
        let log_append_time = rng.one_in(6);
        for delta in 0..count {
            let key = (!self.keyless || !rng.one_in(9)).then(|| format!("k{}", rng.below(self.keys)).into_bytes());
            let value = (!rng.one_in(4)).then(|| vec![rng.below(256) as u8; rng.index(40)]);
            let headers: &[RecordHeader<'_>] = if rng.one_in(3) { &[(b"h", Some(b"1")), (b"", None)] } else { &[] };
            let timestamp = self.now_ms - rng.below(10_000) as i64;
            builder.push(timestamp, key.as_deref(), value.as_deref(), headers);
            let timestamp = if log_append_time { self.now_ms } else { timestamp };
            let offset = base_offset + i64::from(delta);
            let headers = headers.len();
            self.written.push(Written { offset, timestamp, key, value, headers, txn, passed_ms: None });
        }
        let mut bytes = builder.build().unwrap();
        if log_append_time {
            stamp_log_append_time(&mut bytes, self.now_ms);
        }
        self.push(bytes);
    }

    fn push(&mut self, bytes: Vec<u8>) {
        let header = BatchHeader::parse(&bytes).unwrap();
        self.next_offset = header.last_offset() + 1;
        self.heads.insert(header.base_offset, header);
        self.batches.push(bytes);
    }

    fn end_txn(&mut self, id: i64, committed: bool) {
        let Some(producer) = self.producers.get_mut(&id) else { return };
        let Some(txn) = producer.open.take() else { return };
        let (offset, producer_epoch) = (self.next_offset, producer.epoch);
        self.txns[txn].end = Some((offset, committed));
        if !committed {
            let first_offset = self.txns[txn].first_offset;
            self.aborted.push(AbortedTxn { producer_id: id, first_offset, last_offset: offset });
        }
        let marker = EndMarker { producer_id: id, producer_epoch, coordinator_epoch: 0, committed };
        let mut bytes = marker.batch(self.now_ms).unwrap();
        set_base_offset(&mut bytes, offset);
        self.push(bytes);
    }

    /// The producer begins anew with the next epoch; what it had open is aborted by a marker of that epoch.
    fn fence(&mut self, id: i64) {
        let Some(producer) = self.producers.get_mut(&id) else { return };
        producer.epoch += 1;
        producer.sequence = 0;
        producer.last_offset = None;
        self.end_txn(id, false);
    }

    pub fn finish_txns(&mut self, rng: &mut Rng) {
        for id in 0..5 {
            self.end_txn(id, rng.chance(50));
        }
        self.segments.push(self.next_offset);
        self.segments.dedup();
        self.append(rng);
        let last = self.producers.keys().copied().collect::<Vec<_>>();
        last.into_iter().for_each(|id| self.end_txn(id, true));
    }

    /// No producer is active any more.
    pub fn forget_producers(&mut self) {
        self.producers.clear();
    }

    /// The first offset of a transaction that is open, else the end.
    pub fn last_stable_offset(&self) -> i64 {
        let open = self.txns.iter().filter(|txn| txn.end.is_none()).map(|txn| txn.first_offset).min();
        open.unwrap_or(self.next_offset)
    }

    /// A cleaning up to a random segment; `None` when none is cleanable.
    pub fn params(&self, rng: &mut Rng) -> Option<Clean> {
        let (active, stable) = (*self.segments.last()?, self.last_stable_offset());
        let ends: Vec<i64> =
            self.segments.iter().copied().filter(|base| *base <= active.min(stable) && *base > 0).collect();
        let mut params = self.params_to(*rng.pick(&ends)?);
        params.map_bytes_max = [0, 5 * 24, 20 * 24, 1 << 20][rng.index(4)];
        (params.end > params.first_dirty || rng.one_in(3)).then_some(params)
    }

    /// A cleaning of all but the active segment.
    pub fn params_of_all(&self) -> Clean {
        self.params_to(self.segments.last().copied().unwrap_or(0))
    }

    fn params_to(&self, end: i64) -> Clean {
        let end = end.max(self.first_dirty);
        let mut aborted: Vec<_> = self.aborted.iter().copied().filter(|txn| txn.first_offset < end).collect();
        aborted.sort_by_key(|txn| txn.first_offset);
        let producers = self.producers.iter().filter(|(_, producer)| producer.sequence > 0 || producer.epoch > 0);
        let last = |producer: &Producer| LastBatch { last_offset: producer.last_offset, epoch: producer.epoch };
        Clean {
            first_dirty: self.first_dirty,
            end,
            now_ms: self.now_ms,
            delete_retention_ms: self.delete_retention_ms,
            map_bytes_max: 1 << 20,
            batch_bytes_max: 1 << 20,
            segments: self.segments.iter().copied().filter(|base| *base < end).collect(),
            aborted,
            producers: producers.map(|(id, producer)| (*id, last(producer))).collect(),
        }
    }

    /// Takes over what a cleaning came to.
    pub fn cleaned(&mut self, params: &Clean, outcome: &Outcome) {
        self.first_dirty = outcome.cleaned_to;
        let gone: BTreeSet<i64> = outcome.aborted_gone.iter().copied().collect();
        self.aborted.retain(|txn| !gone.contains(&txn.last_offset));
        for record in self.written.iter_mut().filter(|record| record.offset < outcome.end) {
            record.passed_ms.get_or_insert(params.now_ms);
        }
    }

    /// Whether a record's transaction was aborted.
    pub fn is_aborted(&self, record: &Written) -> bool {
        record.txn.is_some_and(|txn| matches!(self.txns[txn].end, Some((_, false))))
    }
}
