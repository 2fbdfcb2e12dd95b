//! What a packet capture shows: every frame between the nodes passes through this process, so it can look for itself.

use std::collections::BTreeMap;
use std::fmt;

use super::frame::{self, Datagram};

/// Longer runs of readable characters do not occur in what is encrypted: once in a hundred million years here.
const READABLE_MAX: usize = 32;
/// Findings kept; more would say nothing new.
const FOUND_MAX: usize = 20;
/// What nodes send to ask whether a port is closed: one byte that is no packet.
const KNOCK: &[u8] = &[0];
/// Version 1 of QUIC (RFC 9000), in packets that name one.
const QUIC_VERSION: [u8; 4] = [0, 0, 0, 1];

/// Looks at frames.
#[derive(Debug, Default)]
pub struct Spy {
    port: u16,
    words: Vec<(String, Vec<u8>)>,
    frames: BTreeMap<&'static str, u64>,
    /// What should not have been seen.
    found: Vec<String>,
}

impl Spy {
    /// Expects QUIC on this port, and none of these words in it.
    pub fn new(port: u16, words: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        Self {
            port,
            words: words.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Expects this word neither, from now on.
    pub fn seek(&mut self, what: &str, word: &[u8]) {
        self.words.push((what.to_owned(), word.to_vec()));
    }

    /// Takes note of a frame.
    pub fn look(&mut self, frame: &[u8]) {
        let mut frame = frame.to_vec();
        let (kind, problem) = self.judge(&mut frame);
        *self.frames.entry(kind).or_insert(0) += 1;
        if let Some(problem) = problem
            && self.found.len() < FOUND_MAX
        {
            self.found.push(problem);
        }
    }

    /// What should not have been there.
    pub fn found(&self) -> &[String] {
        &self.found
    }

    /// How many frames carried QUIC.
    pub fn quic(&self) -> u64 {
        self.frames.get("QUIC").copied().unwrap_or(0)
    }

    fn judge(&self, frame: &mut [u8]) -> (&'static str, Option<String>) {
        if frame::is_housekeeping(frame) {
            return ("address resolution and ICMP", None);
        }
        let Some(datagram) = Datagram::of(frame) else {
            return (
                "other",
                Some(format!("a frame that is no UDP: {:02x?}", head(frame))),
            );
        };
        let (from, to) = (datagram.source(), datagram.destination());
        let payload = datagram.payload();
        let complaint = |what: &str| Some(format!("{from:?} -> {to:?}: {what}"));
        if payload == KNOCK {
            return ("asked whether a port is closed", None);
        }
        if from.1 != self.port && to.1 != self.port {
            return ("other", complaint("UDP on another port"));
        }
        // Other packets have no fixed bits: even the one that version 1 fixes is greased (RFC 9287).
        let is_long = payload.first().is_some_and(|first| first & 0x80 != 0);
        if is_long
            && payload
                .get(1..5)
                .is_none_or(|version| version != QUIC_VERSION)
        {
            return (
                "other",
                complaint("a long header of another version than QUIC 1"),
            );
        }
        if let Some((what, _)) = self.words.iter().find(|(_, word)| contains(payload, word)) {
            return ("QUIC", complaint(&format!("{what} can be read")));
        }
        let readable = longest_readable(payload);
        if readable > READABLE_MAX {
            return (
                "QUIC",
                complaint(&format!("{readable} readable characters")),
            );
        }
        ("QUIC", None)
    }
}

impl fmt::Display for Spy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.frames.iter();
        let kinds: Vec<_> = kinds
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        write!(f, "{}", kinds.join(", "))
    }
}

fn head(frame: &[u8]) -> &[u8] {
    &frame[..frame.len().min(40)]
}

fn contains(payload: &[u8], word: &[u8]) -> bool {
    payload
        .windows(word.len().max(1))
        .any(|window| window == word)
}

fn longest_readable(payload: &[u8]) -> usize {
    let runs = payload.split(|byte| !(0x20..0x7f).contains(byte));
    runs.map(<[u8]>::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::frame::tests::udp;
    use super::*;

    /// QUIC passes; words, text, other ports and other protocols do not.
    #[test]
    fn what_can_be_read_is_noticed() {
        let ends = |port| {
            (
                (Ipv4Addr::new(10, 0, 0, 1), port),
                (Ipv4Addr::new(10, 0, 0, 2), port),
            )
        };
        let look = |port, payload: &[u8]| {
            let mut spy = Spy::new(7_700, [("the name".to_owned(), b"node-w5".to_vec())]);
            let (from, to) = ends(port);
            spy.look(&udp(from, to, payload));
            spy.found().len()
        };
        assert_eq!(look(7_700, b"\x40\x01\x02\x03"), 0);
        assert_eq!(look(7_700, b"\xc0\x00\x00\x00\x01\x08"), 0);
        assert_eq!(look(7_700, KNOCK), 0);
        assert_eq!(look(7_700, b"\xc0\x00\x00\x00\x02\x08"), 1);
        assert_eq!(look(7_700, b"\x40\x01node-w5\x02"), 1);
        assert_eq!(look(7_700, &[b'a'; READABLE_MAX + 1]), 1);
        assert_eq!(look(53, b"\x40\x01\x02\x03"), 1);
        let mut spy = Spy::new(7_700, []);
        let mut tcp = udp(ends(1).0, ends(1).1, b"");
        tcp[23] = 6;
        spy.look(&tcp);
        assert_eq!(spy.found().len(), 1);
        assert_eq!(spy.quic(), 0);
    }
}
