//! A router with address translation between one node and all others, as it stands before rented machines and homes: what the
//! node sends leaves under another address and a port of its own for each destination; what answers it comes in; nothing
//! else does. Pure, but for the time, which is told.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::frame::Datagram;

/// A flow is forgotten after so long without a packet, as many routers do.
const FLOW_MAX: Duration = Duration::from_secs(30);
/// First of the ports given to flows.
const FIRST_PORT: u16 = 40_000;
/// Flows at a time; a packet that would begin one more is lost.
const FLOWS_MAX: usize = 1_024;

/// The router.
#[derive(Debug)]
pub struct Masquerade {
    inside: Ipv4Addr,
    outside: Ipv4Addr,
    flows: Vec<Flow>,
    next_port: u16,
}

#[derive(Debug)]
struct Flow {
    own_port: u16,
    peer: (Ipv4Addr, u16),
    port: u16,
    used: Instant,
}

impl Masquerade {
    /// A router for the node at `inside`, which others see as `outside`.
    pub fn new(inside: Ipv4Addr, outside: Ipv4Addr) -> Self {
        Self {
            inside,
            outside,
            flows: Vec::new(),
            next_port: FIRST_PORT,
        }
    }

    /// Translates a frame that the node sends; whether it leaves.
    pub fn leave(&mut self, frame: &mut [u8], now: Instant) -> bool {
        let Some(mut datagram) = Datagram::of(frame) else {
            return false;
        };
        let (from, to) = (datagram.source(), datagram.destination());
        if from.0 != self.inside {
            return false;
        }
        let Some(port) = self.port_for(from.1, to, now) else {
            return false;
        };
        datagram.set_source((self.outside, port));
        true
    }

    /// Translates a frame for the node; whether it comes in.
    pub fn enter(&mut self, frame: &mut [u8], now: Instant) -> bool {
        let Some(mut datagram) = Datagram::of(frame) else {
            return false;
        };
        let (from, to) = (datagram.source(), datagram.destination());
        let flow = self.flows.iter_mut().find(|flow| {
            let is_fresh = now.saturating_duration_since(flow.used) <= FLOW_MAX;
            is_fresh && flow.port == to.1 && flow.peer == from
        });
        match flow {
            Some(flow) if to.0 == self.outside => {
                flow.used = now;
                datagram.set_destination((self.inside, flow.own_port));
                true
            }
            Some(_) | None => false,
        }
    }

    fn port_for(&mut self, own_port: u16, peer: (Ipv4Addr, u16), now: Instant) -> Option<u16> {
        let is_fresh = |flow: &Flow| now.saturating_duration_since(flow.used) <= FLOW_MAX;
        self.flows.retain(is_fresh);
        let known = self
            .flows
            .iter_mut()
            .find(|flow| flow.own_port == own_port && flow.peer == peer);
        if let Some(flow) = known {
            flow.used = now;
            return Some(flow.port);
        }
        if self.flows.len() >= FLOWS_MAX {
            return None;
        }
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
        self.flows.push(Flow {
            own_port,
            peer,
            port,
            used: now,
        });
        Some(port)
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::tests::udp;
    use super::*;

    const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 8);
    const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 208);
    const PEER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 77, 0, 1), 7_700);

    /// Answers come in under the address they went to, for as long as the flow is fresh; what nobody asked for does not, by
    /// whatever address.
    #[test]
    fn only_answers_come_in() {
        let (mut router, now) = (Masquerade::new(INSIDE, OUTSIDE), Instant::now());
        let mut out = udp((INSIDE, 7_700), PEER, b"hello");
        assert!(router.leave(&mut out, now));
        let seen = Datagram::of(&mut out).unwrap().source();
        assert_eq!(seen.0, OUTSIDE);
        let mut answer = udp(PEER, seen, b"yes");
        assert!(router.enter(&mut answer, now));
        assert_eq!(
            Datagram::of(&mut answer).unwrap().destination(),
            (INSIDE, 7_700)
        );
        let other = (Ipv4Addr::new(10, 77, 0, 2), 7_700);
        for mut unasked in [
            udp(other, seen, b"a stranger"),
            udp(PEER, (OUTSIDE, 7_700), b"another port"),
            udp(PEER, (INSIDE, 7_700), b"the inner address"),
        ] {
            assert!(!router.enter(&mut unasked, now));
        }
        let mut late = udp(PEER, seen, b"late");
        assert!(!router.enter(&mut late, now + FLOW_MAX + Duration::from_millis(1)));
        let mut to_other = udp((INSIDE, 7_700), other, b"hello");
        assert!(router.leave(&mut to_other, now));
        let mapped = Datagram::of(&mut to_other).unwrap().source();
        assert_ne!(mapped, seen, "every destination sees another port");
    }
}
