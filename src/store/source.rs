//! Owns what is uploaded from: bytes of a known length that can be read again when a request has to be.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

/// Bytes of a known length, readable at any place and any number of times with the same result.
pub trait Source: Sync {
    /// Length in bytes.
    fn size(&self) -> u64;

    /// Reads at `offset`, as `pread` does: some bytes, none only at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl Source for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or(&[]);
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

macro_rules! source_of_bytes {
    ($($type:ty),*) => { $(
        impl Source for $type {
            fn size(&self) -> u64 {
                self.len() as u64
            }

            fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
                Source::read_at(&self[..], offset, buffer)
            }
        }
    )* };
}

source_of_bytes!(Vec<u8>, &[u8], Bytes);

impl<const N: usize> Source for [u8; N] {
    fn size(&self) -> u64 {
        N as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Source::read_at(&self[..], offset, buffer)
    }
}

/// A piece of a file, which must not change meanwhile.
#[derive(Clone)]
pub struct FileRange {
    file: Arc<File>,
    offset: u64,
    size: u64,
}

impl FileRange {
    /// `size` bytes from `offset` on. That they are there shows when they are read.
    pub fn new(file: Arc<File>, offset: u64, size: u64) -> FileRange {
        FileRange { file, offset, size }
    }

    /// The whole file, as long as it is now.
    pub fn whole(file: File) -> io::Result<FileRange> {
        let size = file.metadata()?.len();
        Ok(FileRange::new(Arc::new(file), 0, size))
    }
}

impl fmt::Debug for FileRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileRange({} bytes from {})", self.size, self.offset)
    }
}

impl Source for FileRange {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.size.saturating_sub(offset);
        let count = buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        if count == 0 {
            return Ok(0);
        }
        match self.file.read_at(&mut buffer[..count], self.offset + offset)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it should be")),
            read => Ok(read),
        }
    }
}

/// Reads a piece of a source from front to end.
pub(super) struct SourceReader<'a> {
    source: &'a dyn Source,
    at: u64,
    end: u64,
    /// What reading failed with; the caller of a request looks here to tell such a failure from the network's.
    pub failed: Option<io::Error>,
}

impl<'a> SourceReader<'a> {
    /// `end` is a place in the source, and not after its end.
    pub fn new(source: &'a dyn Source, at: u64, end: u64) -> SourceReader<'a> {
        SourceReader { source, at, end, failed: None }
    }
}

impl io::Read for SourceReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        if count == 0 {
            return Ok(0);
        }
        let read = match self.source.read_at(self.at, &mut buffer[..count]) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the source is shorter than it said")),
            other => other,
        };
        match read {
            Ok(count) => {
                self.at += count as u64;
                Ok(count)
            }
            Err(error) => {
                let again = io::Error::new(error.kind(), error.to_string());
                self.failed = Some(error);
                Err(again)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_piece_of_a_file_ends_where_it_should() {
        let path = std::env::temp_dir().join(format!("chronik-source-{}", std::process::id()));
        std::fs::write(&path, b"0123456789").unwrap();
        let file = Arc::new(File::open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        let piece = FileRange::new(Arc::clone(&file), 2, 5);
        let mut text = String::new();
        SourceReader::new(&piece, 1, 5).read_to_string(&mut text).unwrap();
        assert_eq!(text, "3456");
        let beyond = FileRange::new(file, 5, 9);
        let mut reader = SourceReader::new(&beyond, 0, 9);
        assert_eq!(reader.read_to_string(&mut text).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(reader.failed.is_some());
    }
}
