//! Owns the fuzzing of record data: batches and the message sets of formats 0 and 1, from the checks of Produce to what is
//! made of them later.
//!
//! The first byte says how they are taken; one of its bits has the checksums made right, so that what lies behind them is
//! reached too.

use chronik::wire::batch::{
    batches, first_at_or_after, magic_of, offset_of_max_timestamp, recompress, records, validate_produced,
    validate_records, verify_crc, Batch, BatchBuilder, Compression, ProduceChecks, Rewrite, TimestampPolicy, CRC_FROM,
    DECOMPRESSED_BYTES_MAX, HEADER_BYTES, LOG_OVERHEAD, MAGIC_AT,
};
use chronik::wire::control::EndMarker;
use chronik::wire::legacy::{convert_down, convert_up, for_each_record, MessageSetBuilder, Tail};

/// Key, value and headers of a record.
type Content = (Option<Vec<u8>>, Option<Vec<u8>>);

fn checks(how: u8) -> ProduceChecks {
    let timestamps = match how & 4 != 0 {
        true => TimestampPolicy::CreateTime { before_max_ms: 1 << 40, after_max_ms: 3_600_000 },
        false => TimestampPolicy::UNBOUNDED,
    };
    ProduceChecks {
        api_version: 9,
        max_message_bytes: 1 << 20,
        now_ms: 1_700_000_000_000,
        timestamps,
        keys_required: how & 8 != 0,
    }
}

pub fn run(input: &[u8]) {
    let Some((&how, data)) = input.split_first() else { return };
    let mut data = data.to_vec();
    let checks = checks(how);
    if how & 1 != 0 {
        make_right(&mut data);
    }
    match magic_of(&data) {
        Some(0 | 1) => message_set(&data, &ProduceChecks { api_version: 2, ..checks }),
        _ => {
            for batch in batches(&data).flatten() {
                look_into(&batch);
            }
            if let Ok(batch) = validate_produced(&data, &checks) {
                produced(&batch, &checks, how);
            }
        }
    }
    for magic in [0, 1] {
        if let Ok(set) = convert_down(&data, magic, 0, 64 << 10) {
            for_each_record(&set, Tail::MustBeWhole, DECOMPRESSED_BYTES_MAX, |_| {})
                .expect("what is converted is sound");
        }
    }
}

/// Everything that asks a batch of the log something.
fn look_into(batch: &Batch<'_>) {
    let mut scratch = Vec::new();
    if let Ok(found) = records(batch, &mut scratch, 1 << 20) {
        let mut count = 0;
        for record in found.flatten() {
            count += 1;
            record.headers.for_each(drop);
        }
        assert!(count <= batch.header.records_count);
    }
    let _ = first_at_or_after(batch, 1_700_000_000_000);
    let _ = offset_of_max_timestamp(batch);
    let _ = EndMarker::of(batch);
    assert!(verify_crc(batch.bytes) || batch.bytes.len() >= HEADER_BYTES);
}

/// A batch whose head is accepted. If its records are as well, all that can be wanted of it must work.
fn produced(batch: &Batch<'_>, checks: &ProduceChecks, how: u8) {
    let mut scratch = Vec::new();
    let Ok(facts) = validate_records(batch, checks, &mut scratch) else { return };
    let wanted = contents(batch);
    assert_eq!((wanted.len(), facts.count), (batch.header.records_count as usize, batch.header.records_count));
    assert!(!checks.keys_required || wanted.iter().all(|(key, _)| key.is_some()));
    assert_eq!(facts.keyless, wanted.iter().any(|(key, _)| key.is_none()));
    let codec = Compression::from_id((how >> 4) % 5).unwrap_or(Compression::None);
    let other = recompress(batch, codec, DECOMPRESSED_BYTES_MAX).expect("a sound batch can be compressed anew");
    let other = Batch::parse(&other).unwrap();
    assert!(verify_crc(other.bytes) && contents(&other) == wanted, "compressed anew it holds something else");
    assert_eq!(first_at_or_after(&other, 1_600_000_000_000), first_at_or_after(batch, 1_600_000_000_000));
    assert_eq!(
        offset_of_max_timestamp(batch).unwrap().map(|(_, timestamp)| timestamp.max(-1)),
        Some(facts.max_timestamp)
    );
    rewritten(batch, &wanted);
    for magic in [0, 1] {
        if batch.header.compression() == Some(Compression::Zstd) {
            continue;
        }
        let set = convert_down(batch.bytes, magic, 0, usize::MAX).expect("a sound batch can be converted");
        assert_eq!(of_set(&set), wanted, "converted to format {magic} it holds something else");
    }
}

/// Every other record, as compaction would keep them.
fn rewritten(batch: &Batch<'_>, wanted: &[Content]) {
    let (mut scratch, mut body, mut out) = Default::default();
    let kept: Vec<_> = records(batch, &mut scratch, DECOMPRESSED_BYTES_MAX).unwrap().flatten().step_by(2).collect();
    let first = kept[0].timestamp(&batch.header);
    let mut rewrite = Rewrite::new(&batch.header, first, None, DECOMPRESSED_BYTES_MAX, &mut body);
    for record in &kept {
        rewrite.push(record).unwrap();
    }
    rewrite.finish(&mut out).unwrap();
    let new = Batch::parse(&out).unwrap();
    assert!(verify_crc(new.bytes) && new.bytes.len() == out.len());
    assert_eq!(new.header.last_offset(), batch.header.last_offset());
    assert_eq!(contents(&new), wanted.iter().step_by(2).cloned().collect::<Vec<_>>());
    let mut scratch = Vec::new();
    let timestamps = |batch: &Batch<'_>, scratch| {
        let all = records(batch, scratch, DECOMPRESSED_BYTES_MAX).unwrap();
        all.map(|record| record.unwrap().timestamp(&batch.header)).collect::<Vec<_>>()
    };
    let new = timestamps(&new, &mut scratch);
    assert!(new.iter().eq(kept.iter().map(|record| record.timestamp(&batch.header)).collect::<Vec<_>>().iter()));
}

fn contents(batch: &Batch<'_>) -> Vec<Content> {
    let mut scratch = Vec::new();
    let all = records(batch, &mut scratch, DECOMPRESSED_BYTES_MAX).unwrap();
    let own = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    all.map(|record| record.unwrap()).map(|record| (own(record.key), own(record.value))).collect()
}

fn of_set(set: &[u8]) -> Vec<Content> {
    let mut found = Vec::new();
    let own = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    for_each_record(set, Tail::MustBeWhole, DECOMPRESSED_BYTES_MAX, |record| {
        found.push((own(record.key), own(record.value)))
    })
    .unwrap();
    found
}

/// A message set, and the batches that are made of it.
fn message_set(set: &[u8], checks: &ProduceChecks) {
    let mut count = 0;
    let read = for_each_record(set, Tail::MayBeCut, DECOMPRESSED_BYTES_MAX, |_| count += 1);
    let Ok(converted) = convert_up(set, checks) else { return };
    assert_eq!(read, Ok(()), "what cannot be read was converted");
    let wanted = of_set(set);
    let (mut found, mut next) = (Vec::new(), 0);
    for batch in batches(&converted) {
        let batch = batch.expect("batches that were made are whole");
        assert!(verify_crc(batch.bytes) && batch.header.base_offset == next);
        next = batch.header.last_offset() + 1;
        validate_records(&batch, checks, &mut Vec::new()).expect("a batch that was made is accepted");
        found.extend(contents(&batch));
    }
    assert_eq!((found.len(), count), (wanted.len(), wanted.len()));
    assert!(found == wanted, "converted to batches it holds something else");
}

/// Makes checksums right, and lengths that pass the end.
fn make_right(data: &mut [u8]) {
    let mut at = 0;
    while data.len() - at > HEADER_BYTES / 2 {
        let rest = &mut data[at..];
        let claimed = i32::from_be_bytes(rest[8..12].try_into().unwrap());
        let len = usize::try_from(claimed).unwrap_or(0).clamp(10, rest.len() - LOG_OVERHEAD);
        rest[8..12].copy_from_slice(&(len as i32).to_be_bytes());
        let end = LOG_OVERHEAD + len;
        if rest[MAGIC_AT] == 2 && end > HEADER_BYTES {
            let crc = crc32c::crc32c(&rest[CRC_FROM..end]);
            rest[CRC_FROM - 4..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
        } else if rest[MAGIC_AT] < 2 {
            let mut crc = flate2::Crc::new();
            crc.update(&rest[MAGIC_AT..end]);
            rest[LOG_OVERHEAD..MAGIC_AT].copy_from_slice(&crc.sum().to_be_bytes());
        }
        at += end;
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for codec in Compression::ALL {
        let mut builder = BatchBuilder::new().compression(codec);
        builder.push(1_700_000_000_000, Some(b"key"), Some(b"value"), &[(b"name", Some(b"content")), (b"none", None)]);
        builder.push(1_700_000_000_005, None, Some(&[7; 200]), &[]);
        builder.push(1_700_000_000_001, Some(b""), None, &[]);
        let batch = builder.build().unwrap();
        let idempotent = builder.producer(5, 1, 9).transactional().build().unwrap();
        for how in [0u8, 1, 0x15, 0x29, 0x31, 0x41] {
            seeds.push([&[how][..], &batch].concat());
            seeds.push([&[how][..], &idempotent].concat());
        }
        seeds.push([&[1][..], &batch, &idempotent].concat());
    }
    for magic in [0, 1] {
        for codec in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4] {
            let mut set = MessageSetBuilder::new(magic);
            for n in 0..4 {
                set.push(n, 1_700_000_000_000 + n, (n != 2).then_some(&b"key"[..]), (n != 3).then_some(&b"value"[..]));
            }
            let set = match codec {
                Compression::None => set.build(),
                codec => set.build_wrapped(codec, 3, 1_700_000_000_003).unwrap(),
            };
            seeds.push([&[1][..], &set].concat());
            seeds.push([&[4][..], &set].concat());
        }
    }
    let marker = EndMarker { producer_id: 5, producer_epoch: 1, coordinator_epoch: 0, committed: true };
    seeds.push([&[1][..], &marker.batch(1_700_000_000_000).unwrap()].concat());
    seeds
}
