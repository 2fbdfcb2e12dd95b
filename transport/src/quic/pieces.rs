//! Many messages on one stream: each in pieces that carry its number, so that a long one does not hold up the short ones
//! behind it.
//!
//! A piece is a tag, the number of its message, a length and that many bytes. The tag is the first byte of what would
//! stand on a stream of its own, and says whether more pieces of the message follow.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::{RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::frame::FrameError;

/// Longest piece. A request longer than this has a stream of its own.
pub(super) const PIECE_BYTES_MAX: usize = 16 << 10;
/// Pieces are written together up to about this size.
const WRITE_BYTES: usize = 64 << 10;
/// The peer must take what was written within this time.
const PATIENCE: Duration = Duration::from_secs(30);
/// Set in a tag while more pieces follow.
const MORE: u8 = 0x80;
/// Tag, number, length.
const HEADER_BYTES: usize = 9;

/// A message to be sent in pieces.
#[derive(Debug)]
pub(super) struct Message {
    /// The kind of a request or the outcome of a reply.
    pub(super) tag: u8,
    /// Which of the stream's calls it belongs to.
    pub(super) number: u32,
    pub(super) body: Bytes,
}

/// A piece that arrived.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) tag: u8,
    pub(super) number: u32,
    pub(super) body: Bytes,
    pub(super) is_last: bool,
}

/// Writes messages as they come, a piece of each in turn, until nobody can send any more or the stream fails.
pub(super) async fn write_all(
    mut stream: SendStream,
    mut queue: mpsc::Receiver<Message>,
) -> Result<(), FrameError> {
    let mut sending = VecDeque::new();
    let mut buffer = BytesMut::new();
    while let Some(message) = queue.recv().await {
        sending.push_back(message);
        // Who woke this task is often one of many that are about to send: one packet then carries them all.
        yield_now().await;
        while !sending.is_empty() {
            while let Ok(message) = queue.try_recv() {
                sending.push_back(message);
            }
            while buffer.len() < WRITE_BYTES
                && let Some(message) = sending.pop_front()
            {
                sending.extend(put_piece(message, &mut buffer));
            }
            let written = timeout(PATIENCE, stream.write_chunk(buffer.split().freeze())).await;
            let slow = |_| FrameError::Lost("the peer stopped reading".to_owned());
            written.map_err(slow)??;
        }
    }
    // Fails only on a stream that has ended.
    stream.finish().ok();
    Ok(())
}

/// Puts the next piece of a message behind what is there; gives the rest.
fn put_piece(mut message: Message, buffer: &mut BytesMut) -> Option<Message> {
    let body = message
        .body
        .split_to(message.body.len().min(PIECE_BYTES_MAX));
    let more = match message.body.is_empty() {
        true => 0,
        false => MORE,
    };
    buffer.reserve(HEADER_BYTES + body.len());
    buffer.put_u8(message.tag | more);
    buffer.put_u32(message.number);
    buffer.put_u32(body.len() as u32);
    buffer.put_slice(&body);
    (more != 0).then_some(message)
}

/// Reads pieces from a stream.
pub(super) struct Pieces {
    stream: RecvStream,
    unread: BytesMut,
}

impl Pieces {
    pub(super) fn new(stream: RecvStream) -> Self {
        let unread = BytesMut::new();
        Self { stream, unread }
    }

    /// The next piece; none at the end of the stream.
    ///
    /// # Errors
    /// The stream failed, or what is on it is no piece.
    pub(super) async fn next(&mut self) -> Result<Option<Piece>, FrameError> {
        loop {
            if let Some(piece) = take_piece(&mut self.unread)? {
                return Ok(Some(piece));
            }
            let lost = |error: quinn::ReadError| FrameError::Lost(error.to_string());
            let chunk = self.stream.read_chunk(WRITE_BYTES, true).await;
            match chunk.map_err(lost)? {
                Some(chunk) => self.unread.extend_from_slice(&chunk.bytes),
                None if self.unread.is_empty() => return Ok(None),
                None => {
                    let reason = "the peer ended the stream early".to_owned();
                    return Err(FrameError::Lost(reason));
                }
            }
        }
    }
}

/// The first piece of `unread`, if it is there as a whole.
fn take_piece(unread: &mut BytesMut) -> Result<Option<Piece>, FrameError> {
    let mut header = &unread[..];
    if header.len() < HEADER_BYTES {
        return Ok(None);
    }
    let (tag, number) = (header.get_u8(), header.get_u32());
    let length = header.get_u32() as usize;
    if length > PIECE_BYTES_MAX {
        return Err(FrameError::TooLarge(length as u64));
    }
    if header.len() < length {
        return Ok(None);
    }
    unread.advance(HEADER_BYTES);
    Ok(Some(Piece {
        tag: tag & !MORE,
        number,
        body: unread.split_to(length).freeze(),
        is_last: tag & MORE == 0,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u32, length: usize) -> Message {
        let tag = 2;
        let body = vec![number as u8; length].into();
        Message { tag, number, body }
    }

    /// What was put comes back, however it is cut on its way; half a piece is no piece yet.
    #[test]
    fn pieces_come_back() {
        let mut bytes = BytesMut::new();
        let rest = put_piece(message(1, PIECE_BYTES_MAX + 1), &mut bytes).unwrap();
        assert!(put_piece(message(2, 0), &mut bytes).is_none());
        assert!(put_piece(rest, &mut bytes).is_none());
        let mut found = Vec::new();
        let mut unread = BytesMut::new();
        for byte in bytes {
            unread.put_u8(byte);
            found.extend(take_piece(&mut unread).unwrap());
        }
        assert!(unread.is_empty());
        let found: Vec<_> = found
            .iter()
            .map(|piece| (piece.number, piece.body.len(), piece.is_last))
            .collect();
        assert_eq!(
            found,
            [(1, PIECE_BYTES_MAX, false), (2, 0, true), (1, 1, true)]
        );
    }

    /// A length that no piece has is refused before anything is kept for it.
    #[test]
    fn long_pieces_are_refused() {
        let mut unread = BytesMut::new();
        unread.put_u8(2);
        unread.put_u32(1);
        unread.put_u32(PIECE_BYTES_MAX as u32 + 1);
        assert!(matches!(
            take_piece(&mut unread),
            Err(FrameError::TooLarge(_))
        ));
    }
}
