//! Messages in a stream of bytes: each behind its length. The stream is read into one buffer, which grows no further than
//! one message; a length that was claimed is checked before anything waits for it.

use std::io;

use fluxrig_gears::LengthPrefix;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest message that a terminal takes.
const MESSAGE_BYTES_MAX: usize = 1 << 16;
/// Room for one read.
const READ_BYTES: usize = 1 << 14;

/// How messages are told apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames {
    pub(super) prefix: LengthPrefix,
    /// The length counts itself, too.
    pub(super) is_inclusive: bool,
}

impl Frames {
    fn counted(self) -> usize {
        if self.is_inclusive { self.prefix.bytes() } else { 0 }
    }

    /// Appends a message. False when it is longer than its length can say.
    pub(super) fn write(self, body: &[u8], out: &mut Vec<u8>) -> bool {
        let length = body.len() + self.counted();
        let is_sayable = length <= self.prefix.max();
        if is_sayable {
            self.prefix.write(length, out);
            out.extend_from_slice(body);
        }
        is_sayable
    }
}

/// The messages of a stream, one after the other.
pub(super) struct Messages<R> {
    stream: R,
    frames: Frames,
    buffer: Vec<u8>,
    /// What was read out of the buffer already.
    at: usize,
}

impl<R: AsyncRead + Unpin> Messages<R> {
    pub(super) fn new(stream: R, frames: Frames) -> Self {
        Self { stream, frames, buffer: Vec::new(), at: 0 }
    }

    /// Waits for more bytes. False when the peer has closed. Nothing is lost when the wait is given up.
    pub(super) async fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.reserve(READ_BYTES);
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }

    /// The next whole message that was read. Those without bytes, which only ask whether anybody is there, are skipped.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            let bytes = &self.buffer[self.at..];
            let head = self.frames.prefix.bytes();
            let Some(prefix) = bytes.get(..head) else { return Ok(None) };
            let claimed = self.frames.prefix.read(prefix).and_then(|length| length.checked_sub(self.frames.counted()));
            let length = claimed.filter(|length| *length <= MESSAGE_BYTES_MAX).ok_or_else(|| {
                io::Error::other(format!(
                    "found no length of a message of at most {MESSAGE_BYTES_MAX} bytes in front of an answer, expected one as `--framing` says"
                ))
            })?;
            if bytes.len() - head < length {
                return Ok(None);
            }
            let start = self.at + head;
            self.at = start + length;
            if length > 0 {
                return Ok(Some(&self.buffer[start..start + length]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_however_it_is_cut() {
        for prefix in [LengthPrefix::Be16, LengthPrefix::Be32, LengthPrefix::Ascii4, LengthPrefix::Bcd2] {
            for is_inclusive in [false, true] {
                let frames = Frames { prefix, is_inclusive };
                let mut stream = Vec::new();
                for body in [&b"first"[..], b"", b"second"] {
                    assert!(frames.write(body, &mut stream));
                }
                let (one, other) = stream.split_at(3);
                let mut messages = Messages::new(AsyncReadExt::chain(one, other), frames);
                let mut found = Vec::new();
                while messages.fill().await.unwrap() {
                    while let Some(message) = messages.next().unwrap() {
                        found.push(message.to_vec());
                    }
                }
                assert_eq!(found, [b"first".to_vec(), b"second".to_vec()]);
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_length_ends_it() {
        let frames = Frames { prefix: LengthPrefix::Be32, is_inclusive: false };
        let mut messages = Messages::new(&[1, 0, 0, 0][..], frames);
        assert!(messages.fill().await.unwrap());
        assert!(messages.next().is_err());
        assert!(!Frames { prefix: LengthPrefix::Bcd2, is_inclusive: true }.write(&[0; 9998], &mut Vec::new()));
    }
}
