//! What the journals of gets, restores and the catalog share: records that are read whole or not at
//! all, and say themselves whether they are sound.

use std::io::{self, ErrorKind, Read};

/// Whether `buffer` could be filled; false at the end of the file.
pub(super) fn read_whole(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The parts, and the CRC-32 of all of them, little-endian.
pub(super) fn with_checksum<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut hash = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hash.update(part));
    let checksum = hash.finalize().to_le_bytes();
    let mut out = [0; N];
    let bytes = parts.iter().copied().flatten().chain(&checksum);
    out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    out
}

/// A record without its checksum; `None` where that is wrong.
pub(super) fn without_checksum(record: &[u8]) -> Option<&[u8]> {
    let (body, checksum) = record.split_last_chunk::<4>()?;
    (crc32fast::hash(body).to_le_bytes() == *checksum).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_sound_or_is_none() {
        let record: [u8; 9] = with_checksum(&[b"ab", b"cde"]);
        assert_eq!(without_checksum(&record), Some(b"abcde".as_slice()));
        for at in 0..record.len() {
            let mut changed = record;
            changed[at] ^= 1;
            assert_eq!(without_checksum(&changed), None);
        }
        assert_eq!(without_checksum(&record[..3]), None);
        let (mut reader, mut buffer) = (record.as_slice(), [0; 5]);
        assert_eq!(read_whole(&mut reader, &mut buffer).ok(), Some(true));
        assert_eq!(read_whole(&mut reader, &mut buffer).ok(), Some(false));
    }
}
