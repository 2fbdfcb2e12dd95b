//! How an entry lies in sled: in parts that keep its tree pages inside the one file that is synced.

/// Entries are stored in parts of this size: sixteen parts, a full tree page, stay below a quarter segment.
const PART_BYTES: usize = 16 << 10;
/// Length and checksum in front of an entry's first part.
const HEADER_BYTES: usize = 8;

/// The key of a part.
pub fn key(index: u64, part: u16) -> Vec<u8> {
    let mut key = Vec::with_capacity(11);
    key.push(b'e');
    key.extend_from_slice(&index.to_be_bytes());
    key.extend_from_slice(&part.to_be_bytes());
    key
}

/// Index and part of a key.
pub fn split_key(key: &[u8]) -> Option<(u64, u16)> {
    let (index, part) = key.strip_prefix(b"e")?.split_first_chunk::<8>()?;
    let part: [u8; 2] = part.try_into().ok()?;
    Some((u64::from_be_bytes(*index), u16::from_be_bytes(part)))
}

/// The keys and values of an entry: length and checksum, then its bytes, cut into parts.
pub fn parts(index: u64, bytes: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let mut sealed = Vec::with_capacity(HEADER_BYTES + bytes.len());
    sealed.extend_from_slice(&(bytes.len() as u64).to_be_bytes()[4..]);
    sealed.extend_from_slice(&crc32fast::hash(bytes).to_be_bytes());
    sealed.extend_from_slice(bytes);
    let values: Vec<Vec<u8>> = sealed.chunks(PART_BYTES).map(<[u8]>::to_vec).collect();
    (0..=u16::MAX)
        .zip(values)
        .map(move |(part, value)| (key(index, part), value))
}

/// Strips length and checksum from an entry put together from its parts, and checks them.
pub fn unseal(entry: &mut Vec<u8>) -> Result<(), &'static str> {
    let Some((header, body)) = entry.split_first_chunk::<HEADER_BYTES>() else {
        return Err("cut off");
    };
    let [a, b, c, d, e, f, g, h] = *header;
    if u32::from_be_bytes([a, b, c, d]) as usize != body.len() {
        return Err("cut off");
    }
    if u32::from_be_bytes([e, f, g, h]) != crc32fast::hash(body) {
        return Err("not what was written");
    }
    entry.drain(..HEADER_BYTES);
    Ok(())
}

/// Whether an entry of so many bytes is one part.
pub fn fits_one(len: usize) -> bool {
    HEADER_BYTES + len <= PART_BYTES
}

/// Bytes of an entry as it is stored.
pub fn stored_bytes(len: usize) -> u64 {
    (HEADER_BYTES + len) as u64
}
