//! The few bytes of an Ethernet frame that the wire looks at.

use std::net::Ipv4Addr;

use super::namespace::hardware_address;

const HEADER: usize = 14;
const IPV4: [u8; 2] = [0x08, 0x00];
const UDP: u8 = 17;

/// Whom a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// The node with this number.
    Node(usize),
    /// Every node but the sender.
    All,
    /// Nobody here.
    Nobody,
}

/// Reads the destination of a frame.
pub fn destination(frame: &[u8]) -> Destination {
    let Some(to) = frame.first_chunk::<6>().filter(|_| frame.len() >= HEADER) else {
        return Destination::Nobody;
    };
    if to[0] & 1 == 1 {
        return Destination::All;
    }
    let number = to[5].wrapping_sub(1);
    if *to == hardware_address(number) {
        Destination::Node(number.into())
    } else {
        Destination::Nobody
    }
}

/// Flips bit `bit` (modulo their number) of what a UDP datagram carries; whether the frame carries one.
///
/// The datagram's checksum is taken out, which IPv4 permits: otherwise the kernel would drop the frame, and corruption
/// would be nothing but loss. It is for the receiver to notice.
pub fn corrupt(frame: &mut [u8], bit: usize) -> bool {
    let is_udp = frame.get(12..14) == Some(&IPV4) && frame.get(23) == Some(&UDP);
    let header = usize::from(frame.get(14).copied().unwrap_or(0) & 0x0f) * 4;
    let (checksum, payload) = (HEADER + header + 6, HEADER + header + 8);
    if !is_udp || payload >= frame.len() {
        return false;
    }
    frame[checksum..payload].fill(0);
    let bit = bit % ((frame.len() - payload) * 8);
    frame[payload + bit / 8] ^= 1 << (bit % 8);
    true
}

const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const HOP_BY_HOP: u8 = 0;

/// Whether a frame is what kernels say to each other to find addresses and to report failures.
pub fn is_housekeeping(frame: &[u8]) -> bool {
    let protocol = |at: usize| frame.get(at).copied();
    match frame.get(12..14) {
        Some(kind) if kind == ARP => true,
        Some(kind) if kind == IPV4 => protocol(23) == Some(ICMP),
        // Reports of multicast listeners come behind a hop-by-hop header.
        Some(kind) if kind == IPV6 => {
            protocol(20) == Some(ICMPV6)
                || (protocol(20) == Some(HOP_BY_HOP) && protocol(54) == Some(ICMPV6))
        }
        _ => false,
    }
}

/// A frame with a whole UDP datagram over IPv4 in it.
pub struct Datagram<'a> {
    frame: &'a mut [u8],
    /// Where the UDP header begins.
    udp: usize,
}

impl<'a> Datagram<'a> {
    /// Reads one; none for anything else, parts of one among it.
    pub fn of(frame: &'a mut [u8]) -> Option<Self> {
        let is_udp = frame.get(12..14) == Some(&IPV4) && frame.get(23) == Some(&UDP);
        let udp = HEADER + usize::from(*frame.get(HEADER)? & 0x0f) * 4;
        let is_part = (u16::from_be_bytes([*frame.get(20)?, *frame.get(21)?]) & 0x3fff) != 0;
        let fits = udp >= HEADER + 20 && udp + 8 <= frame.len();
        (is_udp && !is_part && fits).then_some(Self { frame, udp })
    }

    pub fn source(&self) -> (Ipv4Addr, u16) {
        (self.address(26), self.port(self.udp))
    }

    pub fn destination(&self) -> (Ipv4Addr, u16) {
        (self.address(30), self.port(self.udp + 2))
    }

    /// What it carries.
    pub fn payload(&self) -> &[u8] {
        let length = usize::from(self.port(self.udp + 4)).max(8);
        let end = (self.udp + length).min(self.frame.len());
        &self.frame[self.udp + 8..end]
    }

    pub fn set_source(&mut self, to: (Ipv4Addr, u16)) {
        self.set(26, self.udp, to);
    }

    pub fn set_destination(&mut self, to: (Ipv4Addr, u16)) {
        self.set(30, self.udp + 2, to);
    }

    /// The checksum of the datagram is taken out, which IPv4 permits; that of the header is made anew.
    fn set(&mut self, address: usize, port: usize, to: (Ipv4Addr, u16)) {
        self.frame[address..address + 4].copy_from_slice(&to.0.octets());
        self.frame[port..port + 2].copy_from_slice(&to.1.to_be_bytes());
        self.frame[self.udp + 6..self.udp + 8].fill(0);
        self.frame[24..26].fill(0);
        let mut sum: u32 = 0;
        for pair in self.frame[HEADER..self.udp].chunks_exact(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let checksum = !(sum as u16);
        self.frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    }

    fn address(&self, at: usize) -> Ipv4Addr {
        let frame = &self.frame;
        Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3])
    }

    fn port(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.frame[at], self.frame[at + 1]])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A frame with a datagram from one end to the other, to node 2's hardware.
    pub fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
        let mut frame = datagram(payload);
        frame[26..30].copy_from_slice(&from.0.octets());
        frame[30..34].copy_from_slice(&to.0.octets());
        frame[34..36].copy_from_slice(&from.1.to_be_bytes());
        frame[36..38].copy_from_slice(&to.1.to_be_bytes());
        frame[38..40].copy_from_slice(&(8 + payload.len() as u16).to_be_bytes());
        frame
    }

    /// A rewritten header sums up to what receivers check (RFC 1071), and the payload stays.
    #[test]
    fn rewritten_datagrams_are_valid() {
        let ends = (Ipv4Addr::new(10, 0, 0, 1), 7_700);
        let mut frame = udp(ends, ends, b"payload");
        let mut datagram = Datagram::of(&mut frame).unwrap();
        let to = (Ipv4Addr::new(192, 168, 7, 9), 40_001);
        datagram.set_source(to);
        datagram.set_destination((Ipv4Addr::new(10, 0, 0, 3), 9));
        assert_eq!(datagram.source(), to);
        assert_eq!(datagram.payload(), b"payload");
        let pairs = frame[14..34].chunks_exact(2);
        let sum: u32 = pairs
            .map(|p| u32::from(u16::from_be_bytes([p[0], p[1]])))
            .sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        assert_eq!(frame[40..42], [0, 0]);
        for cut in 0..42 {
            assert!(Datagram::of(&mut frame[..cut].to_vec()).is_none(), "{cut}");
        }
    }

    fn datagram(payload: &[u8]) -> Vec<u8> {
        let mut frame = hardware_address(2).to_vec();
        frame.extend(hardware_address(0));
        frame.extend(IPV4);
        let mut ip = [0_u8; 20];
        (ip[0], ip[9]) = (0x45, UDP);
        frame.extend(ip);
        frame.extend([1, 2, 3, 4, 0, 12, 0xab, 0xcd]);
        frame.extend(payload);
        frame
    }

    /// A frame goes to whom its first bytes name; what is too short or for a stranger goes nowhere.
    #[test]
    fn destinations_are_read() {
        assert_eq!(destination(&datagram(b"x")), Destination::Node(2));
        assert_eq!(destination(&[0xff; 60]), Destination::All);
        assert_eq!(destination(&[0x02; 60]), Destination::Nobody);
        assert_eq!(destination(&datagram(b"x")[..13]), Destination::Nobody);
        assert_eq!(destination(&[0; 60]), Destination::Nobody);
    }

    /// Exactly one bit of the payload changes, the checksum goes, and other frames are left alone.
    #[test]
    fn corruption_flips_one_bit_of_the_payload() {
        for bit in 0..40 {
            let mut frame = datagram(&[0; 5]);
            assert!(corrupt(&mut frame, bit));
            let payload = &frame[42..];
            assert_eq!(payload.iter().map(|b| b.count_ones()).sum::<u32>(), 1);
            assert_eq!(frame[40..42], [0, 0]);
            frame[42..].fill(0);
            assert_eq!(frame[..40], datagram(&[0; 5])[..40]);
        }
        let mut empty = datagram(&[]);
        assert!(!corrupt(&mut empty, 0));
        let mut arp = vec![0xff; 42];
        assert!(!corrupt(&mut arp, 0));
        assert_eq!(arp, [0xff; 42]);
    }
}
