//! Owns the reactor's view of the broker: the calls of one turn, as a trait, so that the tests of this room can put a
//! scripted broker in its place. It is resolved at compile time.

use bytes::Bytes;

use crate::broker::tiering::UploadDone;
use crate::broker::work::WorkDone;
use crate::broker::{Broker, CheckpointDone, ConnId, ConnInfo, Effect, Now};
use crate::wal::tidy::TidyDone;
use crate::wal::{Group, ReadDone, Splice, Written};

/// What a turn of the reactor calls, with the meaning that `Broker` gives the methods of the same names.
pub trait Core {
    fn connected(&mut self, conn: ConnId, info: ConnInfo);
    fn disconnected(&mut self, now: Now, conn: ConnId);
    fn abandon(&mut self, now: Now, conn: ConnId);
    fn owes(&self, conn: ConnId) -> bool;
    fn ready_for(&self, conn: ConnId, api_key: i16) -> bool;
    fn will_tell(&mut self, conn: ConnId) -> bool;
    fn request(&mut self, now: Now, conn: ConnId, frame: Bytes);
    fn written(&mut self, now: Now, written: Written);
    fn read_done(&mut self, now: Now, done: ReadDone);
    fn work_done(&mut self, now: Now, done: WorkDone);
    fn checkpoint_done(&mut self, now: Now, done: CheckpointDone);
    fn tidy_done(&mut self, now: Now, done: TidyDone);
    fn uploaded(&mut self, now: Now, done: UploadDone);
    fn expire(&mut self, now: Now);
    fn deadline_us(&self) -> Option<u64>;
    fn next_group(&mut self, now: Now) -> Option<Group>;
    fn next_effect(&mut self) -> Option<Effect>;
    fn ring_bytes(&self, splice: &Splice) -> Option<Bytes>;
    fn kept_answer_bytes(&self) -> usize;
    fn unsent(&mut self, now: Now, bytes: usize);
    fn stop(&mut self, now: Now);
    fn is_drained(&self) -> bool;
}

impl Core for Broker {
    fn connected(&mut self, conn: ConnId, info: ConnInfo) {
        Broker::connected(self, conn, info);
    }
    fn disconnected(&mut self, now: Now, conn: ConnId) {
        Broker::disconnected(self, now, conn);
    }
    fn abandon(&mut self, now: Now, conn: ConnId) {
        Broker::abandon(self, now, conn);
    }
    fn owes(&self, conn: ConnId) -> bool {
        Broker::owes(self, conn)
    }
    fn ready_for(&self, conn: ConnId, api_key: i16) -> bool {
        Broker::ready_for(self, conn, api_key)
    }
    fn will_tell(&mut self, conn: ConnId) -> bool {
        Broker::will_tell(self, conn)
    }
    fn request(&mut self, now: Now, conn: ConnId, frame: Bytes) {
        Broker::request(self, now, conn, frame);
    }
    fn written(&mut self, now: Now, written: Written) {
        Broker::written(self, now, written);
    }
    fn read_done(&mut self, now: Now, done: ReadDone) {
        Broker::read_done(self, now, done);
    }
    fn work_done(&mut self, now: Now, done: WorkDone) {
        Broker::work_done(self, now, done);
    }
    fn checkpoint_done(&mut self, now: Now, done: CheckpointDone) {
        Broker::checkpoint_done(self, now, done);
    }
    fn tidy_done(&mut self, now: Now, done: TidyDone) {
        Broker::tidy_done(self, now, done);
    }
    fn uploaded(&mut self, now: Now, done: UploadDone) {
        Broker::uploaded(self, now, done);
    }
    fn expire(&mut self, now: Now) {
        Broker::expire(self, now);
    }
    fn deadline_us(&self) -> Option<u64> {
        Broker::deadline_us(self)
    }
    fn next_group(&mut self, now: Now) -> Option<Group> {
        Broker::next_group(self, now)
    }
    fn next_effect(&mut self) -> Option<Effect> {
        Broker::next_effect(self)
    }
    fn ring_bytes(&self, splice: &Splice) -> Option<Bytes> {
        Broker::ring_bytes(self, splice)
    }
    fn kept_answer_bytes(&self) -> usize {
        Broker::kept_answer_bytes(self)
    }
    fn unsent(&mut self, now: Now, bytes: usize) {
        Broker::unsent(self, now, bytes);
    }
    fn stop(&mut self, now: Now) {
        Broker::stop(self, now);
    }
    fn is_drained(&self) -> bool {
        Broker::is_drained(self)
    }
}
