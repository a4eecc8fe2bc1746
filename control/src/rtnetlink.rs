//! How messages of `rtnetlink(7)` are read: items, each of which begins with its length.

/// How long a message's header is.
pub(crate) const HEADER_BYTES: usize = 16;

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// The next item of a list, of this length and no shorter than its header, and what follows it.
pub(crate) fn split(bytes: &[u8], length: usize, header: usize) -> Option<(&[u8], &[u8])> {
    let item = bytes.get(..length).filter(|_| length >= header)?;
    let next = length.next_multiple_of(4).min(bytes.len());
    Some((item, &bytes[next..]))
}

/// The messages of a datagram: each one's kind and body.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let (message, rest) = split(bytes, length, HEADER_BYTES)?;
        bytes = rest;
        Some((u16_at(message, 4)?, &message[HEADER_BYTES..]))
    })
}

/// A message's attributes: each one's kind and value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (attribute, rest) = split(bytes, u16_at(bytes, 0)?.into(), 4)?;
        bytes = rest;
        Some((u16_at(attribute, 2)?, &attribute[4..]))
    })
}
