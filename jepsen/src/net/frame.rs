//! The few bytes of an Ethernet frame that the wire looks at.

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

#[cfg(test)]
mod tests {
    use super::*;

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
