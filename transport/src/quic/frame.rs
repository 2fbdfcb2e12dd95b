//! What is written on a stream: one request with its kind, one reply with its outcome, each with its length in front.

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{ReadExactError, RecvStream, SendStream, WriteError};
use riftmesh_base::limits::MESSAGE_BYTES_MAX;

use crate::link::Lane;

/// Room is made for a message as it arrives, so that an announced length alone costs nothing.
const GROW_BYTES: usize = 64 << 10;

/// What a stream is for: its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Sent once on each new connection: the reply shows that the peer accepted our certificate.
    Hello,
    /// A call on a lane.
    Call(Lane),
    /// A request for a blob by its hash.
    Blob,
    /// A stranger's request to be let in, at the door only.
    Knock,
    /// Asks for this connection to be a line: what comes on it from now on is packets for other nodes.
    Relay,
    /// Many calls on one stream, in pieces; see `pieces`.
    Calls,
}

/// How a peer answers: the first byte of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The reply follows.
    Done,
    /// A reason follows; the request was not carried out.
    Refused,
    /// The request was over this bound, which follows as text.
    TooLarge,
    /// The reply was over the bound; the request was carried out.
    ReplyTooLarge,
    /// Carrying it out ended without a reply, on a stream that other calls share.
    Died,
}

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The stream or its connection ended.
    #[error("{0}")]
    Lost(String),
    /// The other side does not speak this protocol.
    #[error("unknown frame type {0}")]
    Unknown(u8),
    /// Over the bound.
    #[error("a frame of {0} bytes is over the bound of {MESSAGE_BYTES_MAX}")]
    TooLarge(u64),
}

impl From<ReadExactError> for FrameError {
    fn from(error: ReadExactError) -> Self {
        Self::Lost(match error {
            ReadExactError::FinishedEarly(_) => "the peer ended the stream early".to_owned(),
            ReadExactError::ReadError(error) => error.to_string(),
        })
    }
}

impl From<WriteError> for FrameError {
    fn from(error: WriteError) -> Self {
        Self::Lost(error.to_string())
    }
}

impl Kind {
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Hello => 0,
            Self::Call(Lane::Raft) => 1,
            Self::Call(Lane::Client) => 2,
            Self::Call(Lane::Mesh) => 3,
            Self::Blob => 4,
            Self::Knock => 5,
            Self::Relay => 6,
            Self::Calls => 7,
        }
    }

    pub(super) fn of(byte: u8) -> Result<Self, FrameError> {
        match byte {
            0 => Ok(Self::Hello),
            1 => Ok(Self::Call(Lane::Raft)),
            2 => Ok(Self::Call(Lane::Client)),
            3 => Ok(Self::Call(Lane::Mesh)),
            4 => Ok(Self::Blob),
            5 => Ok(Self::Knock),
            6 => Ok(Self::Relay),
            7 => Ok(Self::Calls),
            other => Err(FrameError::Unknown(other)),
        }
    }
}

impl Outcome {
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::TooLarge => 2,
            Self::ReplyTooLarge => 3,
            Self::Died => 4,
        }
    }

    pub(super) fn of(byte: u8) -> Result<Self, FrameError> {
        match byte {
            0 => Ok(Self::Done),
            1 => Ok(Self::Refused),
            2 => Ok(Self::TooLarge),
            3 => Ok(Self::ReplyTooLarge),
            4 => Ok(Self::Died),
            other => Err(FrameError::Unknown(other)),
        }
    }
}

/// Says what a stream is for that stays open.
pub(super) async fn write_opening(send: &mut SendStream, kind: Kind) -> Result<(), FrameError> {
    write_open(send, kind.byte(), Bytes::new()).await
}

/// Writes a whole request and ends the stream.
pub(super) async fn write_request(
    send: &mut SendStream,
    kind: Kind,
    body: Bytes,
) -> Result<(), FrameError> {
    write(send, kind.byte(), body).await
}

/// Writes a whole reply and ends the stream.
pub(super) async fn write_reply(
    send: &mut SendStream,
    outcome: Outcome,
    body: Bytes,
) -> Result<(), FrameError> {
    write(send, outcome.byte(), body).await
}

/// Writes a reply and leaves the stream open for the bytes that follow it.
pub(super) async fn write_head(
    send: &mut SendStream,
    outcome: Outcome,
    body: Bytes,
) -> Result<(), FrameError> {
    write_open(send, outcome.byte(), body).await
}

async fn write(send: &mut SendStream, first: u8, body: Bytes) -> Result<(), FrameError> {
    write_open(send, first, body).await?;
    // Fails only when the stream was ended before, which is not so: it was just written to.
    send.finish().ok();
    Ok(())
}

async fn write_open(send: &mut SendStream, first: u8, body: Bytes) -> Result<(), FrameError> {
    let length = u32::try_from(body.len()).map_err(|_| FrameError::TooLarge(body.len() as u64))?;
    let mut header = BytesMut::with_capacity(5);
    header.put_u8(first);
    header.put_u32(length);
    send.write_all_chunks(&mut [header.freeze(), body]).await?;
    Ok(())
}

/// Reads the kind of a request and the length of its body.
pub(super) async fn read_kind(recv: &mut RecvStream) -> Result<(Kind, u32), FrameError> {
    let (first, length) = read_header(recv).await?;
    Ok((Kind::of(first)?, length))
}

/// Reads a whole reply.
pub(super) async fn read_reply(recv: &mut RecvStream) -> Result<(Outcome, Bytes), FrameError> {
    let (first, length) = read_header(recv).await?;
    Ok((Outcome::of(first)?, read_body(recv, length).await?))
}

async fn read_header(recv: &mut RecvStream) -> Result<(u8, u32), FrameError> {
    let mut header = [0; 5];
    recv.read_exact(&mut header).await?;
    let [first, length @ ..] = header;
    Ok((first, u32::from_be_bytes(length)))
}

/// Reads a body of `length` bytes, if that is within the bound.
pub(super) async fn read_body(recv: &mut RecvStream, length: u32) -> Result<Bytes, FrameError> {
    let length = length as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(FrameError::TooLarge(length as u64));
    }
    let mut body = BytesMut::new();
    while body.len() < length {
        let filled = body.len();
        body.resize(length.min(filled + GROW_BYTES), 0);
        recv.read_exact(&mut body[filled..]).await?;
    }
    Ok(body.freeze())
}
