//! Owns the tests of share groups on a full disk.

use super::*;

#[test]
fn a_full_disk_refuses_what_cannot_be_kept_and_goes_on_reading() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 4);
    w.h.log.space_bytes = 0;
    w.produce("t", 4);
    let got = w.fetch(&mut a, WANT);
    assert_eq!(got.acquired(), [(0, 7, 1)], "reading goes on");
    assert_eq!(w.ack(&mut a, &[(0, 1, &[ACCEPT])]), ErrorCode::KAFKA_STORAGE_ERROR);
    assert_eq!(w.beat(G, "m", a.member_epoch, None).0, ErrorCode::NONE, "nothing changes");
    assert_eq!(w.beat(G, "other", 0, Some(&["t"])).0, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(w.beat(G, "m", -1, None).0, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    w.h.pass_ms(LOCK_MS);
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [(0, 7, 2)], "locks end nevertheless");
    w.h.log.space_bytes = 1 << 30;
    assert_eq!(w.ack(&mut a, &[(0, 1, &[ACCEPT])]), ErrorCode::KAFKA_STORAGE_ERROR, "not looked at again yet");
    w.h.pass_ms(2000);
    w.h.settle();
    assert_eq!(w.ack(&mut a, &[(0, 1, &[ACCEPT])]), ErrorCode::NONE);
    w.restart();
    assert_eq!(w.start_and_lag("t", 0), (2, 6));
}
