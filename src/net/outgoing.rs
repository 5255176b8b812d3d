//! Owns the answers that wait to be sent on one connection, and sending them without copying record data.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::Response;
use crate::sys::{sendfile, socket};
use crate::wal::Splice;

/// Bytes of memory of all answers that wait to be sent, on all connections together.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<AtomicUsize>);

impl Tally {
    /// The bytes now.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Answers of one connection, oldest first.
#[derive(Debug)]
pub struct Outgoing {
    responses: VecDeque<Sending>,
    head_bytes: usize,
    tally: Tally,
}

/// A response, and how far it has been sent.
#[derive(Debug)]
struct Sending {
    response: Response,
    head_sent: usize,
    /// Index of the splice that is next or being sent, and how much of it has gone.
    splice: usize,
    splice_sent: u32,
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
    Splice(&'a Splice, u32),
    End,
}

impl Sending {
    fn next(&self) -> Next<'_> {
        let splice = self.response.splices.get(self.splice);
        let head_end = splice.map_or(self.response.head.len(), |(at, _)| *at).min(self.response.head.len());
        match splice {
            _ if self.head_sent < head_end => Next::Head(&self.response.head[self.head_sent..head_end]),
            Some((_, splice)) => Next::Splice(splice, self.splice_sent),
            None => Next::End,
        }
    }

    /// Takes note of bytes of the piece that `next` gave.
    fn advance(&mut self, bytes: usize) {
        match self.next() {
            Next::Head(_) => self.head_sent += bytes,
            Next::Splice(splice, sent) => {
                let sent = sent.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
                if sent >= splice.len {
                    self.splice += 1;
                    self.splice_sent = 0;
                } else {
                    self.splice_sent = sent;
                }
            }
            Next::End => {}
        }
    }
}

impl Outgoing {
    /// None yet; those to come are counted in `tally` too.
    pub fn new(tally: Tally) -> Outgoing {
        Outgoing { responses: VecDeque::new(), head_bytes: 0, tally }
    }

    /// Queues a whole response frame.
    pub fn push(&mut self, mut response: Response) {
        response.splices.retain(|(_, splice)| splice.len > 0);
        self.head_bytes += response.head.capacity();
        self.tally.0.fetch_add(response.head.capacity(), Ordering::Relaxed);
        self.responses.push_back(Sending { response, head_sent: 0, splice: 0, splice_sent: 0 });
    }

    pub fn is_empty(&self) -> bool {
        self.responses.is_empty()
    }

    /// Responses that have not gone completely.
    pub fn len(&self) -> usize {
        self.responses.len()
    }

    /// Bytes of memory that the waiting heads hold. Splices hold none.
    pub fn head_bytes(&self) -> usize {
        self.head_bytes
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
            self.send_front_splice(stream, bytes_max)?
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
        let mut bytes = 0;
        for sending in &self.responses {
            let mut head_from = sending.head_sent;
            let mut skip = sending.splice_sent;
            let head = &sending.response.head;
            for (at, splice) in &sending.response.splices[sending.splice..] {
                let at = (*at).min(head.len());
                if head_from < at {
                    bytes += at - head_from;
                    pieces.push(Piece::Head(&head[head_from..at]));
                    head_from = at;
                }
                if bytes >= bytes_max || pieces.len() + 2 > socket::SLICES_MAX {
                    return (pieces, false);
                }
                let Some(shared) = ring(&rest_of(splice, skip)) else { return (pieces, true) };
                let whole = shared.len() == (splice.len - skip) as usize;
                skip = 0;
                bytes += shared.len();
                pieces.push(Piece::Ring(shared));
                if !whole {
                    return (pieces, false);
                }
            }
            if head_from < head.len() {
                bytes += head.len() - head_from;
                pieces.push(Piece::Head(&head[head_from..]));
            }
            if bytes >= bytes_max || pieces.len() + 2 > socket::SLICES_MAX {
                return (pieces, false);
            }
        }
        (pieces, false)
    }

    /// Sends file data for the splice that is next.
    fn send_front_splice(&self, stream: &TcpStream, bytes_max: usize) -> io::Result<usize> {
        let Some(Next::Splice(splice, sent)) = self.responses.front().map(Sending::next) else { return Ok(0) };
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
                Next::Splice(splice, sent) => (splice.len - sent) as usize,
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
            self.head_bytes -= sending.response.head.capacity();
            self.tally.0.fetch_sub(sending.response.head.capacity(), Ordering::Relaxed);
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.tally.0.fetch_sub(self.head_bytes, Ordering::Relaxed);
    }
}

/// A piece of memory to send.
enum Piece<'a> {
    Head(&'a [u8]),
    Ring(Bytes),
}

impl Piece<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Head(bytes) => bytes,
            Piece::Ring(bytes) => bytes,
        }
    }
}

/// What is left of a splice after its first `sent` bytes.
fn rest_of(splice: &Splice, sent: u32) -> Splice {
    Splice {
        handle: splice.handle.clone(),
        position: splice.position + u64::from(sent),
        len: splice.len.saturating_sub(sent),
    }
}
