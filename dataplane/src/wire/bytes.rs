//! Big-endian fields by offset. Each panics past the slice's end: callers prove the length first.

/// The 16-bit field at `offset`.
#[inline]
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    let mut field = [0; 2];
    field.copy_from_slice(&bytes[offset..offset + 2]);
    u16::from_be_bytes(field)
}

/// The 32-bit field at `offset`.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_be_bytes(field)
}

/// The sixteen octets at `offset`.
#[inline]
pub(crate) fn octets16_at(bytes: &[u8], offset: usize) -> [u8; 16] {
    let mut field = [0; 16];
    field.copy_from_slice(&bytes[offset..offset + 16]);
    field
}

/// Sets the 16-bit field at `offset`.
#[inline]
pub(crate) fn put_u16(bytes: &mut [u8], offset: usize, value: u16) {
    bytes[offset..offset + 2].copy_from_slice(&value.to_be_bytes());
}

/// Sets the 32-bit field at `offset`.
#[inline]
pub(crate) fn put_u32(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
}
