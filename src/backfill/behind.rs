//! A file that is written by a thread of its own, so that whoever makes the text does not wait for the system to take it.

use std::fs::File;
use std::io::{Error, Result, Write};
use std::mem;
use std::sync::mpsc::{Receiver, channel};

use crate::threads::Behind;

/// The file is written in pieces of this size.
const PIECE: usize = 1024 * 1024;

/// Pieces that wait to be written.
const WAITING: usize = 2;

/// The near end of it. [`flush`](Write::flush) waits until all is written, and ends it; so does letting it go, after
/// which the file is nobody's.
#[derive(Debug)]
pub(super) struct WrittenBehind {
    piece: Vec<u8>,
    writer: Behind<Vec<u8>, Error>,
    /// Written ones, to be filled again.
    spare: Receiver<Vec<u8>>,
}

impl WrittenBehind {
    /// Writes to `file` from here on.
    pub(super) fn new(mut file: File) -> Result<Self> {
        let (give_back, spare) = channel();
        let writer = Behind::start("file", WAITING, move |mut piece: Vec<u8>| {
            file.write_all(&piece)?;
            piece.clear();
            // If nobody fills it any more, it goes.
            let _ = give_back.send(piece);
            Ok(())
        })?;
        Ok(Self { piece: Vec::new(), writer, spare })
    }

    fn hand_on(&mut self) -> Result<()> {
        let piece = mem::replace(&mut self.piece, self.spare.try_recv().unwrap_or_default());
        self.writer.hand_in(piece)
    }
}

impl Write for WrittenBehind {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.hand_on()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        self.hand_on()?;
        self.writer.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_stands_in_the_file_in_its_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let mut out = WrittenBehind::new(File::create(&path).expect("a file")).expect("a thread");
        let wanted: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
        for some in wanted.chunks(300_001) {
            out.write_all(some).expect("it is taken");
        }
        out.flush().expect("it is written");
        assert!(std::fs::read(&path).expect("the file") == wanted);
        out.write_all(b"more").expect("it is taken");
        assert!(out.flush().is_err(), "nobody writes it any more");
    }

    #[test]
    fn a_file_that_takes_nothing_is_told() {
        let Ok(full) = File::create("/dev/full") else { panic!("there is no /dev/full") };
        let mut out = WrittenBehind::new(full).expect("a thread");
        let result = (0..100).try_for_each(|_| out.write_all(&vec![0; PIECE])).and_then(|()| out.flush());
        assert_eq!(result.map_err(|error| error.kind()), Err(std::io::ErrorKind::StorageFull));
    }
}
