//! Numbers of one to ten bytes. Pure.
//!
//! An unsigned number is LEB128 (as in DWARF and protobuf): seven bits a byte, lowest first, the
//! top bit set in all bytes but the last. A signed one is zigzag first: 0, -1, 1, -2 .. become 0,
//! 1, 2, 3 .. A number has one form only, the shortest: equal content has equal bytes.

/// Appends a number.
pub fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number.
pub fn put_signed(value: i64, out: &mut Vec<u8>) {
    put((value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned(), out);
}

/// Takes a number off the front; `None` where it is cut short, longer than it need be, or above 64
/// bits. What is left of `from` is then of no meaning.
pub fn take(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for the last bit only.
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            let shortest = *byte != 0 || shift == 0;
            return shortest.then_some(value);
        }
    }
    None
}

/// Takes a signed number off the front; `None` as in [`take`].
pub fn take_signed(from: &mut &[u8]) -> Option<i64> {
    let value = take(from)?;
    Some((value >> 1).cast_signed() ^ (value & 1).cast_signed().wrapping_neg())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put(value, &mut out);
        out
    }

    #[test]
    fn numbers_have_the_bytes_of_the_specification() {
        for (value, bytes) in [
            (0, vec![0]),
            (127, vec![127]),
            (128, vec![0x80, 1]),
            (624_485, vec![0xe5, 0x8e, 0x26]),
            (u64::MAX, [vec![0xff; 9], vec![1]].concat()),
        ] {
            assert_eq!(encoded(value), bytes);
        }
        for (value, coded) in
            [(0, 0), (-1, 1), (1, 2), (-2, 3), (i64::MAX, u64::MAX - 1), (i64::MIN, u64::MAX)]
        {
            let mut out = Vec::new();
            put_signed(value, &mut out);
            assert_eq!(out, encoded(coded));
        }
    }

    #[test]
    fn a_number_has_one_form() {
        let long = [0xff; 9];
        for bad in [
            vec![],
            vec![0x80],
            vec![0x80, 0],
            vec![0xff, 0x80, 0],
            [long.as_slice(), &[2]].concat(),
            [long.as_slice(), &[0x81, 0]].concat(),
            [long.as_slice(), &[0x80]].concat(),
        ] {
            assert_eq!(take(&mut bad.as_slice()), None, "{bad:02x?}");
        }
    }

    proptest! {
        #[test]
        fn any_number_comes_back(
            value in any::<u64>(),
            shift in 0..64_u32,
            signed in any::<i64>(),
        ) {
            let value = value >> shift;
            let mut bytes = encoded(value);
            put_signed(signed, &mut bytes);
            bytes.push(7);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(take(&mut rest), Some(value));
            prop_assert_eq!(take_signed(&mut rest), Some(signed));
            prop_assert_eq!(rest, &[7]);
        }

        #[test]
        fn any_bytes_are_one_number_or_none(
            bytes in proptest::collection::vec(any::<u8>(), 0..12),
        ) {
            let mut rest = bytes.as_slice();
            if let Some(value) = take(&mut rest) {
                prop_assert_eq!(encoded(value), &bytes[..bytes.len() - rest.len()]);
            }
        }
    }
}
