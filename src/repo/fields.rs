//! Fields that several layouts share: a text has its length in front as a `u8`, a path as a `u16`,
//! little-endian. Pure. What is cut short is `None`, and the rest is then of no more use.

use bytes::Buf;

/// The next bytes, as many as fit.
pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

/// So many bytes.
pub(super) fn take_bytes<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

/// A path.
pub(super) fn take_path(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let length = rest.try_get_u16_le().ok()?;
    take_bytes(rest, length.into()).map(<[u8]>::to_vec)
}

/// A text. The inner `None` is one that is no UTF-8.
pub(super) fn take_text(rest: &mut &[u8]) -> Option<Option<String>> {
    let length = rest.try_get_u8().ok()?;
    let bytes = take_bytes(rest, length.into())?;
    Some(String::from_utf8(bytes.to_vec()).ok())
}

/// A path; `None` where it is too long for its length.
pub(super) fn put_path(path: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.extend(u16::try_from(path.len()).ok()?.to_le_bytes());
    out.extend_from_slice(path);
    Some(())
}

/// A text; `None` where it is too long for its length.
pub(super) fn put_text(text: &str, out: &mut Vec<u8>) -> Option<()> {
    out.push(u8::try_from(text.len()).ok()?);
    out.extend_from_slice(text.as_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_texts_come_back_and_end_where_they_are_cut() {
        let mut out = Vec::new();
        assert_eq!(put_path(&[0xff; 300], &mut out), Some(()));
        assert_eq!(put_text("text", &mut out), Some(()));
        let mut rest = out.as_slice();
        assert_eq!(take_path(&mut rest), Some(vec![0xff; 300]));
        assert_eq!(take_text(&mut rest), Some(Some("text".to_owned())));
        assert_eq!((take::<1>(&mut rest), take_bytes(&mut rest, 1)), (None, None));
        assert_eq!(take_path(&mut &out[..301]), None);
        assert_eq!(take_text(&mut [2, b'x'].as_slice()), None);
        assert_eq!(take_text(&mut [1, 0xff].as_slice()), Some(None));
        assert_eq!(put_text(&"x".repeat(256), &mut out), None);
        assert_eq!(put_path(&[0; 1 << 16], &mut out), None);
    }
}
