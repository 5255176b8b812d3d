//! Owns the proof that the simulated disk really does each kind of damage, and none that was not asked for.

use std::io::ErrorKind;
use std::sync::Arc;

use chronik::sys::aligned::AlignedBuf;
use chronik::sys::disk::{Disk, DiskFile, OpenMode, BLOCK_BYTES};

use super::disk::{Faults, Op, SimDisk, Trouble, CHANGES};

const BLOCK: u64 = BLOCK_BYTES as u64;

fn blocks(count: usize, fill: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::with_capacity(count * BLOCK_BYTES);
    buf.resize(count * BLOCK_BYTES);
    buf.fill(fill);
    buf
}

fn read(disk: &SimDisk, path: &str, mode: OpenMode) -> Vec<u8> {
    let file = disk.open(path, mode).expect("the file is there");
    let mut bytes = vec![0; file.len().expect("a length") as usize];
    assert_eq!(file.read_at(&mut bytes, 0).expect("readable"), bytes.len());
    bytes
}

/// A durable file of eight blocks of 1, of which the last seven were then written with 2 and not synced.
fn half_synced(disk: &SimDisk) -> Arc<dyn DiskFile> {
    let file = disk.create("f", 8 * BLOCK).expect("room");
    file.write_at(&blocks(8, 1), 0).expect("written");
    file.sync_data().expect("synced");
    disk.sync_dir("").expect("synced");
    file.write_at(&blocks(7, 2), BLOCK).expect("written");
    file
}

/// What eight blocks look like after a crash, over many seeds.
fn after_crashes(faults: Faults) -> Vec<Vec<u8>> {
    let crash = |seed| {
        let disk = SimDisk::new(seed, faults);
        let _file = half_synced(&disk);
        let disk = disk.power_cut();
        let bytes = read(&disk, "f", OpenMode::Direct);
        assert_eq!(bytes, read(&disk, "f", OpenMode::Cached));
        assert!(bytes[..BLOCK_BYTES].iter().all(|b| *b == 1), "a synced block was hurt");
        bytes
    };
    (0..200).map(crash).collect()
}

fn any_block(images: &[Vec<u8>], is_wanted: impl Fn(&[u8]) -> bool) -> bool {
    images.iter().any(|bytes| bytes.chunks(BLOCK_BYTES).skip(1).any(&is_wanted))
}

fn is_mixture(block: &[u8]) -> bool {
    block.chunks(512).all(|s| s.iter().all(|b| *b == s[0])) && block.contains(&1) && block.contains(&2)
}

fn is_noise(block: &[u8]) -> bool {
    block.iter().any(|b| *b > 2)
}

#[test]
fn without_faults_a_crash_keeps_everything() {
    let kept: Vec<u8> = [blocks(1, 1).to_vec(), blocks(7, 2).to_vec()].concat();
    assert!(after_crashes(Faults::NONE).iter().all(|bytes| *bytes == kept));
}

#[test]
fn unsynced_blocks_are_lost_in_any_order() {
    let images = after_crashes(Faults { drop: true, ..Faults::NONE });
    assert!(any_block(&images, |block| block[0] == 1) && any_block(&images, |block| block[0] == 2));
    assert!(!any_block(&images, is_mixture) && !any_block(&images, is_noise));
    let later_before_earlier = images.iter().any(|b| b[BLOCK_BYTES] == 1 && b[7 * BLOCK_BYTES] == 2);
    assert!(later_before_earlier, "blocks only ever arrived in order");
}

#[test]
fn unsynced_blocks_are_torn_at_sectors() {
    let images = after_crashes(Faults { torn: true, ..Faults::NONE });
    assert!(any_block(&images, is_mixture));
    assert!(!any_block(&images, is_noise));
}

#[test]
fn unsynced_blocks_are_garbled() {
    assert!(any_block(&after_crashes(Faults { garbled: true, ..Faults::NONE }), is_noise));
}

#[test]
fn an_unsynced_length_may_be_lost() {
    let lengths: Vec<u64> = (0..100)
        .map(|seed| {
            let disk = SimDisk::new(seed, Faults { length: true, ..Faults::NONE });
            let _file = disk.create("f", 8 * BLOCK).expect("room");
            disk.sync_dir("").expect("synced");
            disk.power_cut().list("").expect("a folder")[0].1
        })
        .collect();
    assert!(lengths.contains(&0) && lengths.contains(&(8 * BLOCK)));
    assert!(lengths.iter().any(|len| (1..8 * BLOCK).contains(len)));
}

#[test]
fn a_cut_comes_back_until_it_is_synced() {
    let undone = |synced: bool| {
        (0..100).any(|seed| {
            let disk = SimDisk::new(seed, Faults::ALL);
            let file = half_synced(&disk);
            file.sync_data().expect("synced");
            file.truncate(BLOCK).expect("cut");
            assert_eq!(read(&disk, "f", OpenMode::Cached).len(), BLOCK_BYTES);
            if synced {
                file.sync_data().expect("synced");
            }
            read(&disk.power_cut(), "f", OpenMode::Cached).len() > BLOCK_BYTES
        })
    };
    assert!(undone(false));
    assert!(!undone(true));
}

#[test]
fn names_are_lost_until_the_folder_is_synced() {
    let after = |synced: bool, seed: u64| {
        let disk = SimDisk::new(seed, Faults { names: true, ..Faults::NONE });
        disk.create_dir("d").expect("made");
        for path in ["d/renamed", "d/removed"] {
            disk.create(path, BLOCK).expect("room");
        }
        disk.sync_dir("d").expect("synced");
        disk.create("d/created", BLOCK).expect("room");
        disk.rename("d/renamed", "d/new").expect("renamed");
        disk.remove("d/removed").expect("removed");
        if synced {
            disk.sync_dir("d").expect("synced");
        }
        let names = disk.power_cut().list("d").expect("a folder");
        names.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    for seed in 0..100 {
        assert_eq!(after(true, seed), ["created", "new"]);
    }
    let outcomes: Vec<_> = (0..300).map(|seed| after(false, seed)).collect();
    assert!(outcomes.iter().any(|names| !names.contains(&"created".to_string())));
    assert!(outcomes.iter().any(|names| names.contains(&"renamed".to_string())));
    assert!(outcomes.iter().any(|names| names.contains(&"removed".to_string())));
    let one_without_the_other = |names: &Vec<String>| names.len() == 4 || names == &["new"];
    assert!(outcomes.iter().any(one_without_the_other), "changes only ever went together: {outcomes:?}");
    let rename_is_whole = |names: &Vec<String>| names.iter().filter(|n| *n == "new" || *n == "renamed").count() == 1;
    assert!(outcomes.iter().all(rename_is_whole));
}

#[test]
fn new_space_may_hold_a_removed_files_bytes() {
    let stale = (0..50).filter(|seed| {
        let disk = SimDisk::new(*seed, Faults { stale: true, ..Faults::NONE });
        let file = half_synced(&disk);
        file.sync_data().expect("synced");
        disk.remove("f").expect("removed");
        disk.create("g", 8 * BLOCK).expect("room");
        read(&disk, "g", OpenMode::Direct).contains(&2)
    });
    assert!((1..50).contains(&stale.count()));
}

#[test]
fn after_a_failed_sync_only_the_cache_shows_the_lost_bytes() {
    let mut lost_at_all = false;
    for seed in 0..20 {
        let disk = SimDisk::new(seed, Faults::ALL);
        let file = half_synced(&disk);
        disk.plan(&[Op::Sync], "", 1, Trouble::Error);
        assert!(file.sync_data().is_err());
        assert!(read(&disk, "f", OpenMode::Cached)[BLOCK_BYTES..].iter().all(|b| *b == 2));
        let direct = read(&disk, "f", OpenMode::Direct);
        lost_at_all |= direct[BLOCK_BYTES..].contains(&1);
        file.sync_data().expect("the second sync lies, as it does on Linux");
        let disk = disk.process_died();
        assert_eq!(read(&disk, "f", OpenMode::Direct), direct);
        assert!(read(&disk, "f", OpenMode::Cached)[BLOCK_BYTES..].iter().all(|b| *b == 2));
        assert_eq!(read(&disk.power_cut(), "f", OpenMode::Cached), direct);
    }
    assert!(lost_at_all);
}

#[test]
fn a_killed_process_loses_nothing_but_its_handles() {
    let disk = SimDisk::new(1, Faults::ALL);
    let file = half_synced(&disk);
    let after = disk.process_died();
    assert!(file.write_at(&blocks(1, 3), 0).is_err() && file.sync_data().is_err());
    assert!(disk.create("g", BLOCK).is_err());
    assert!(read(&after, "f", OpenMode::Direct)[BLOCK_BYTES..].iter().all(|b| *b == 2));
    let lost = (0..50).any(|seed| {
        let disk = SimDisk::new(seed, Faults::ALL);
        let _file = half_synced(&disk);
        read(&disk.process_died().power_cut(), "f", OpenMode::Direct)[BLOCK_BYTES..].contains(&1)
    });
    assert!(lost, "what a killed process left unsynced must still be at risk");
}

#[test]
fn a_cut_in_the_middle_of_a_replacement_leaves_the_old_or_the_new() {
    let (mut olds, mut news, mut leftovers) = (0, 0, 0);
    for seed in 0..200 {
        let disk = SimDisk::new(seed, Faults::ALL);
        disk.replace("f", b"old").expect("room");
        disk.plan(CHANGES, "", 1, Trouble::Cut);
        assert!(disk.replace("f", b"new").is_err());
        assert_eq!(disk.is_down(), Some(Trouble::Cut));
        let disk = disk.restart();
        match disk.read("f", 100).expect("never missing").as_slice() {
            b"old" => olds += 1,
            b"new" => news += 1,
            other => panic!("neither old nor new: {other:?}"),
        }
        leftovers += disk.list("").expect("a folder").len() - 1;
    }
    assert!(olds > 0 && news > 0 && leftovers > 0);
}

#[test]
fn a_full_disk_refuses_new_space_and_recovers() {
    let disk = SimDisk::new(1, Faults::NONE);
    disk.set_capacity(10 * BLOCK);
    let file = disk.create("f", 8 * BLOCK).expect("room");
    assert_eq!(disk.free_bytes().expect("known"), 2 * BLOCK);
    assert_eq!(disk.create("g", 4 * BLOCK).expect_err("full").kind(), ErrorKind::StorageFull);
    assert_eq!(disk.replace("h", &[0; 10_000]).expect_err("full").kind(), ErrorKind::StorageFull);
    file.write_at(&blocks(8, 1), 0).expect("reserved space stays writable");
    disk.remove("f").expect("removed");
    disk.create("g", 4 * BLOCK).expect("room again");
    disk.plan(&[Op::Create], "", 1, Trouble::Full);
    assert_eq!(disk.create("i", 0).expect_err("planned").kind(), ErrorKind::StorageFull);
}

#[test]
fn errors_strike_the_planned_call_and_only_it() {
    let disk = SimDisk::new(1, Faults::NONE);
    let file = half_synced(&disk);
    disk.plan(&[Op::Write], "f", 2, Trouble::Error);
    disk.plan(&[Op::Read], "f", 1, Trouble::Error);
    assert!(file.write_at(&blocks(1, 3), 0).is_ok());
    assert!(file.write_at(&blocks(1, 3), 0).is_err());
    assert!(file.write_at(&blocks(1, 3), 0).is_ok());
    assert!(file.read_at(&mut [0; 10], 0).is_err());
    assert_eq!(file.read_at(&mut [0; 10], 0).expect("once only"), 10);
    assert_eq!(disk.count(&[Op::Write]), 5);
}

#[test]
fn rot_flips_bits_for_every_reader() {
    let disk = SimDisk::new(1, Faults::NONE);
    let _file = half_synced(&disk);
    disk.rot("f", 5, 0x10).expect("there");
    for mode in [OpenMode::Cached, OpenMode::Direct] {
        assert_eq!(read(&disk, "f", mode)[4..7], [1, 0x11, 1]);
    }
}

/// A second name of a file that rots is not what the server says of it (seed 9860000109 of the long histories).
#[test]
fn only_sealed_segments_by_their_first_names_are_settled() {
    let disk = SimDisk::new(1, Faults::NONE);
    for folder in ["wal", "packs", "checkpoints", "frozen"] {
        disk.create_dir(folder).expect("a folder");
    }
    for path in ["wal/1.log", "wal/2.log", "wal/3.log", "packs/4.seg", "checkpoints/5.ckpt", "chronik.dir"] {
        disk.create(path, BLOCK).expect("room");
    }
    let before = disk.settled();
    assert_eq!(before, ["wal/1.log", "checkpoints/5.ckpt", "packs/4.seg"]);
    for (path, second) in [("wal/1.log", "frozen/wal-1.log"), ("wal/3.log", "frozen/wal-3.log")] {
        disk.link(path, second).expect("another name");
    }
    assert_eq!(disk.settled(), before);
}

#[test]
fn the_same_seed_crashes_the_same_way() {
    let run = |seed| {
        let disk = SimDisk::new(seed, Faults::ALL);
        let _file = half_synced(&disk);
        read(&disk.power_cut(), "f", OpenMode::Direct)
    };
    assert!((0..20).all(|seed| run(seed) == run(seed)));
    assert!((0..20).any(|seed| run(seed) != run(seed + 100)));
}
