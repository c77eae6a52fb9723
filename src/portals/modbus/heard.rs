//! What has come of an answer. Owns the bytes while they come, and what is left to say of them when nobody waits any longer: that
//! bytes came is another fault than silence. What they mean is `line`'s.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::wire::modbus::{PDU_BYTES_MAX, hex};

/// What came since the last request and is not its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Came {
    /// Silence.
    #[default]
    Nothing,
    /// So many bytes that make no whole answer.
    Piece(usize),
    /// A whole frame of this unit, which was not asked; its checksum is good.
    Other(u8),
    /// Over TCP a whole frame with the number of another request.
    OtherRequest,
}

/// One frame as it comes, told to the trace: whole, or as much of it as there was when nobody waited any longer.
pub(super) struct Heard<'l> {
    pub(super) frame: Vec<u8>,
    line: &'l str,
    came: &'l mut Came,
    done: bool,
}

impl<'l> Heard<'l> {
    /// Nothing has come yet; `came` is told of a piece.
    pub(super) fn new(line: &'l str, came: &'l mut Came) -> Self {
        Self { frame: Vec::new(), line, came, done: false }
    }

    /// The frame, which is whole.
    pub(super) fn whole(mut self) -> Vec<u8> {
        tracing::trace!(target: "dormgate::frames", line = %self.line, "< {}", hex(&self.frame));
        self.done = true;
        std::mem::take(&mut self.frame)
    }
}

impl Drop for Heard<'_> {
    fn drop(&mut self) {
        if !self.done && !self.frame.is_empty() {
            *self.came = Came::Piece(self.frame.len());
            tracing::trace!(target: "dormgate::frames", line = %self.line, "< {} (cut off)", hex(&self.frame));
        }
    }
}

/// Reads until `frame` has `length` bytes; what has come stays in it if nobody waits any longer.
pub(super) async fn fill(port: &mut (impl AsyncRead + Unpin), frame: &mut Vec<u8>, length: usize) -> io::Result<()> {
    while frame.len() < length {
        let mut bytes = [0; PDU_BYTES_MAX + 3];
        let wanted = bytes.get_mut(..length - frame.len()).ok_or(io::ErrorKind::InvalidInput)?;
        let read = port.read(wanted).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        frame.extend(wanted.iter().take(read));
    }
    Ok(())
}
