//! Owns the answers that wait to be sent on one connection, and sending them without copying record data.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::buffers::Going;
use crate::broker::{Insert, Response};
use crate::sys::{sendfile, socket};
use crate::wal::Splice;

/// The memory of all answers that wait to be sent, on all connections together.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Memory>);

#[derive(Debug, Default)]
struct Memory {
    bytes: AtomicUsize,
    /// What large answers took, which is still counted.
    going: Going,
}

impl Tally {
    /// The bytes now.
    pub fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Whether `give_back_some` has something to do.
    pub fn has_to_give_back(&self) -> bool {
        self.0.going.bytes() > 0
    }

    /// Gives back about so many bytes of what was too large to be given back at once.
    pub fn give_back_some(&self, bytes: usize) {
        self.0.bytes.fetch_sub(self.0.going.give_back_some(bytes), Ordering::Relaxed);
    }

    fn add(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes back what an answer held for which so many bytes were added.
    fn take_back(&self, response: Response, bytes: usize) {
        self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let inserted = response.inserts.into_iter().filter_map(|(_, insert)| match insert {
            Insert::Memory(bytes) => Some(bytes),
            Insert::Log(_) => None,
        });
        // Without its content none of it is copied; memory that somebody shares stays with him.
        let inserted = inserted.filter(|bytes| Going::is_for(bytes.len())).map(|mut bytes| {
            bytes.advance(bytes.len());
            Vec::from(bytes)
        });
        for memory in inserted.chain([response.head]).filter(|memory| Going::is_for(memory.capacity())) {
            self.add(memory.capacity());
            self.0.going.push(memory);
        }
    }
}

/// Answers of one connection, oldest first.
#[derive(Debug)]
pub struct Outgoing {
    responses: VecDeque<Sending>,
    memory_bytes: usize,
    tally: Tally,
}

/// A response, and how far it has been sent.
#[derive(Debug)]
struct Sending {
    response: Response,
    /// What it takes of memory.
    memory_bytes: usize,
    head_sent: usize,
    /// Index of the insert that is next or being sent, and how many bytes of it have gone.
    insert: usize,
    insert_sent: usize,
}

/// How a call of `send` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Everything has gone to the kernel.
    All,
    /// The socket takes no more for now.
    Full,
    /// The bytes allowed for this turn are used up.
    Enough,
}

/// What goes out next of the front response.
enum Next<'a> {
    Head(&'a [u8]),
    Insert(&'a Insert, usize),
    End,
}

impl Sending {
    fn next(&self) -> Next<'_> {
        let insert = self.response.inserts.get(self.insert);
        let head_end = insert.map_or(self.response.head.len(), |(at, _)| *at).min(self.response.head.len());
        match insert {
            _ if self.head_sent < head_end => Next::Head(&self.response.head[self.head_sent..head_end]),
            Some((_, insert)) => Next::Insert(insert, self.insert_sent),
            None => Next::End,
        }
    }

    /// Takes note of bytes of the piece that `next` gave.
    fn advance(&mut self, bytes: usize) {
        match self.next() {
            Next::Head(_) => self.head_sent += bytes,
            Next::Insert(insert, sent) => {
                let sent = sent.saturating_add(bytes);
                if sent >= insert.len() {
                    self.insert += 1;
                    self.insert_sent = 0;
                } else {
                    self.insert_sent = sent;
                }
            }
            Next::End => {}
        }
    }
}

impl Outgoing {
    /// None yet; those to come are counted in `tally` too.
    pub fn new(tally: Tally) -> Outgoing {
        Outgoing { responses: VecDeque::new(), memory_bytes: 0, tally }
    }

    /// Queues a whole response frame.
    pub fn push(&mut self, mut response: Response) {
        response.inserts.retain(|(_, insert)| !insert.is_empty());
        let memory_bytes = response.memory_bytes();
        self.memory_bytes += memory_bytes;
        self.tally.add(memory_bytes);
        self.responses.push_back(Sending { response, memory_bytes, head_sent: 0, insert: 0, insert_sent: 0 });
    }

    pub fn is_empty(&self) -> bool {
        self.responses.is_empty()
    }

    /// Responses that have not gone completely.
    pub fn len(&self) -> usize {
        self.responses.len()
    }

    /// Bytes of memory that the waiting answers hold. What is sent from the log holds none.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Sends as much as the socket takes, at most about `bytes_max`. Record data comes from `ring` when it is still in
    /// memory and from the file otherwise. Returns the number of bytes sent and how it ended.
    pub fn send(
        &mut self,
        stream: &TcpStream,
        bytes_max: usize,
        ring: impl Fn(&Splice) -> Option<Bytes>,
    ) -> io::Result<(usize, Sent)> {
        let mut sent = 0;
        loop {
            self.drop_finished();
            if self.responses.is_empty() {
                return Ok((sent, Sent::All));
            }
            if sent >= bytes_max {
                return Ok((sent, Sent::Enough));
            }
            match self.send_once(stream, bytes_max - sent, &ring) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((sent, Sent::Full)),
                Err(error) => return Err(error),
            }
        }
    }

    /// One call to the kernel: everything up to the first piece that has to come from a file, or that piece.
    fn send_once(
        &mut self,
        stream: &TcpStream,
        bytes_max: usize,
        ring: &impl Fn(&Splice) -> Option<Bytes>,
    ) -> io::Result<usize> {
        let (pieces, file_follows) = self.pieces(bytes_max, ring);
        let sent = if pieces.is_empty() {
            self.send_front_file(stream, bytes_max)?
        } else {
            let mut slices = [IoSlice::new(&[]); socket::SLICES_MAX];
            for (slice, piece) in slices.iter_mut().zip(&pieces) {
                *slice = IoSlice::new(piece.bytes());
            }
            socket::send_vectored(stream, &slices[..pieces.len()], file_follows)?
        };
        drop(pieces);
        self.advance(sent);
        Ok(sent)
    }

    /// Pieces that can be sent from memory, in order, and whether they end because file data follows.
    fn pieces(&self, bytes_max: usize, ring: &impl Fn(&Splice) -> Option<Bytes>) -> (Vec<Piece<'_>>, bool) {
        let mut pieces = Vec::with_capacity(self.responses.len().min(socket::SLICES_MAX));
        let mut left = bytes_max;
        for sending in &self.responses {
            let mut head_from = sending.head_sent;
            let mut skip = sending.insert_sent;
            let head = &sending.response.head;
            let inserts = sending.response.inserts[sending.insert..].iter().map(|(at, insert)| (*at, Some(insert)));
            for (at, insert) in inserts.chain([(head.len(), None)]) {
                let at = at.min(head.len());
                if head_from < at {
                    let end = at.min(head_from + left);
                    pieces.push(Piece::Head(&head[head_from..end]));
                    left -= end - head_from;
                    head_from = at;
                }
                if left == 0 || pieces.len() + 2 > socket::SLICES_MAX {
                    return (pieces, false);
                }
                let Some(insert) = insert else { break };
                let shared = match insert {
                    Insert::Memory(bytes) => bytes.slice(skip..bytes.len().min(skip + left)),
                    Insert::Log(splice) => match ring(&rest_of(splice, skip)) {
                        Some(shared) => shared,
                        None => return (pieces, true),
                    },
                };
                let whole = shared.len() == insert.len() - skip;
                skip = 0;
                left = left.saturating_sub(shared.len());
                pieces.push(Piece::Shared(shared));
                if !whole {
                    return (pieces, false);
                }
            }
        }
        (pieces, false)
    }

    /// Sends file data for the splice that is next.
    fn send_front_file(&self, stream: &TcpStream, bytes_max: usize) -> io::Result<usize> {
        let Some(Next::Insert(Insert::Log(splice), sent)) = self.responses.front().map(Sending::next) else {
            return Ok(0);
        };
        let rest = rest_of(splice, sent);
        let count = sendfile::send(stream, &*rest.handle.file, rest.position, bytes_max.min(rest.len as usize))?;
        if count == 0 {
            let what = format!("{} ends before byte {}", rest.handle.segment, rest.position);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        Ok(count)
    }

    fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let Some(front) = self.responses.front_mut() else { return };
            let piece = match front.next() {
                Next::Head(head) => head.len(),
                Next::Insert(insert, sent) => insert.len() - sent,
                Next::End => {
                    self.pop_front();
                    continue;
                }
            };
            front.advance(piece.min(bytes));
            bytes -= piece.min(bytes);
        }
    }

    fn drop_finished(&mut self) {
        while self.responses.front().is_some_and(|front| matches!(front.next(), Next::End)) {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some(sending) = self.responses.pop_front() {
            self.memory_bytes -= sending.memory_bytes;
            self.tally.take_back(sending.response, sending.memory_bytes);
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        while !self.responses.is_empty() {
            self.pop_front();
        }
    }
}

/// A piece of memory to send.
enum Piece<'a> {
    Head(&'a [u8]),
    Shared(Bytes),
}

impl Piece<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Head(bytes) => bytes,
            Piece::Shared(bytes) => bytes,
        }
    }
}

/// What is left of a splice after its first `sent` bytes.
fn rest_of(splice: &Splice, sent: usize) -> Splice {
    let sent = u32::try_from(sent).unwrap_or(u32::MAX);
    Splice {
        handle: splice.handle.clone(),
        position: splice.position + u64::from(sent),
        len: splice.len.saturating_sub(sent),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, there)
    }

    /// Copying it on the thread for which everybody waits took 20 ms for an answer of 34 MB, and giving it back 5.
    #[test]
    fn record_data_in_memory_is_sent_from_where_it_is_in_turns_and_given_back_in_parts() {
        let (here, mut there) = pair();
        let large: Vec<u8> = (0..6 << 20).map(|i| (i % 251) as u8).collect();
        let inserts = [(2, vec![7; 5]), (2, large.clone()), (3, vec![9; 1])];
        let expected = [&[1, 2][..], &[7; 5], &large, &[3], &[9], &[4]].concat();
        let tally = Tally::default();
        let mut outgoing = Outgoing::new(tally.clone());
        let inserts = inserts.map(|(at, bytes)| (at, Insert::Memory(bytes.into())));
        outgoing.push(Response { head: vec![1, 2, 3, 4], inserts: inserts.into() });
        assert_eq!(outgoing.memory_bytes(), expected.len());
        let reader = thread::spawn(move || {
            let mut received = vec![0; expected.len()];
            there.read_exact(&mut received).unwrap();
            received == expected
        });
        let turn = 100_000;
        loop {
            let (sent, how) = outgoing.send(&here, turn, |_| None).unwrap();
            assert!(sent <= turn, "{sent} bytes in a turn");
            if how == Sent::All {
                break;
            }
        }
        assert!(reader.join().unwrap(), "other bytes than were to be sent");
        assert_eq!(outgoing.memory_bytes(), 0);
        assert!(tally.has_to_give_back() && tally.bytes() >= large.len());
        tally.give_back_some(1 << 20);
        assert!(tally.has_to_give_back() && tally.bytes() <= large.len());
        tally.give_back_some(usize::MAX);
        assert_eq!((tally.has_to_give_back(), tally.bytes()), (false, 0));
    }
}
