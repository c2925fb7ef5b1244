//! Names as text that does nothing to whatever shows it. Pure.
//!
//! A name is any bytes. On a terminal some of them move the cursor, set the title or turn the
//! direction of writing round, and others are no text at all. So wherever a name is shown or stands
//! in JSON, it is written like this. Every name is written in one way, and [`raw`] reads it back:
//!
//! | in the name | written |
//! |---|---|
//! | `\` | `\\` |
//! | line feed, carriage return, tab | `\n`, `\r`, `\t` |
//! | other ASCII controls, bytes that are no UTF-8 | `\x1b`: two digits of hexadecimal, one byte |
//! | other characters that do not show as themselves | `\u{202e}`: the character's number |
//! | all else | itself |
//!
//! The third kind are the controls beyond ASCII, marks and overrides of the direction of writing,
//! separators of lines and paragraphs, tags, and what has no width. The joiners U+200C and U+200D
//! stay: writing of several languages needs them.

use std::fmt::{self, Write};

/// Shows a name as the module's documentation says.
#[derive(Debug, Clone, Copy)]
pub struct Inert<'a>(
    /// The name, or a path.
    pub &'a [u8],
);

impl fmt::Display for Inert<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.utf8_chunks() {
            for found in part.valid().chars() {
                match found {
                    '\\' => f.write_str("\\\\")?,
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    _ if found.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(found))?,
                    _ if is_loose(found) => write!(f, "\\u{{{:x}}}", u32::from(found))?,
                    _ => f.write_char(found)?,
                }
            }
            for byte in part.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// A name as the module's documentation says.
pub fn inert(name: &[u8]) -> String {
    Inert(name).to_string()
}

/// The name that is written like this; `None` where none is, or where it is written otherwise.
pub fn raw(text: &str) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (plain, escape) = rest.split_at_checked(at)?;
        name.extend_from_slice(plain.as_bytes());
        let escape = escape.strip_prefix('\\')?;
        let kind = escape.chars().next()?;
        rest = escape.strip_prefix(kind)?;
        match kind {
            '\\' => name.push(b'\\'),
            'n' => name.push(b'\n'),
            'r' => name.push(b'\r'),
            't' => name.push(b'\t'),
            'x' => {
                let (digits, behind) = rest.split_at_checked(2)?;
                name.push(u8::from_str_radix(digits, 16).ok()?);
                rest = behind;
            }
            'u' => {
                let (digits, behind) = rest.strip_prefix('{')?.split_once('}')?;
                let found = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
                name.extend_from_slice(found.encode_utf8(&mut [0; 4]).as_bytes());
                rest = behind;
            }
            _ => return None,
        }
    }
    name.extend_from_slice(rest.as_bytes());
    // One name, one text: what says the same in another way is none.
    (inert(&name) == text).then_some(name)
}

/// Names that other systems give to devices, whatever stands behind a dot.
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "COM", "LPT"];

/// Whether a name, with no folder before it, can be one on the systems in wide use: it is UTF-8,
/// has none of the characters that Windows forbids, does not end in a dot or a space, and is none
/// of a device there (Microsoft, "Naming Files, Paths, and Namespaces").
pub fn is_portable(name: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(name) else { return false };
    let is_forbidden = |found: char| u32::from(found) < 32 || "<>:\"\\|?*".contains(found);
    let stem = text.split('.').next().unwrap_or(text).trim_end();
    let is_device = DEVICES.iter().any(|device| {
        let Some((start, number)) = stem.split_at_checked(device.len()) else { return false };
        let has_number = ["COM", "LPT"].contains(device);
        start.eq_ignore_ascii_case(device)
            && match number.as_bytes() {
                [] => !has_number,
                [b'1'..=b'9'] => has_number,
                _ => false,
            }
    });
    !text.contains(is_forbidden) && !text.ends_with(['.', ' ']) && !is_device
}

/// Characters beyond ASCII that change how others show, or do not show themselves.
fn is_loose(found: char) -> bool {
    found.is_control()
        || matches!(
            found,
            '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_inert_on_a_terminal() {
        for (name, text) in [
            (b"plain.txt".as_slice(), "plain.txt"),
            ("Z\u{fc}rich \u{2013} \u{65e5}\u{672c}".as_bytes(), "Zürich – 日本"),
            (b"a\x1b[2Jb", "a\\x1b[2Jb"),
            (b"a\nb\rc\td", "a\\nb\\rc\\td"),
            (b"\x00\x07\x7f", "\\x00\\x07\\x7f"),
            ("\u{9b}31m".as_bytes(), "\\u{9b}31m"),
            ("exe\u{202e}gpj".as_bytes(), "exe\\u{202e}gpj"),
            ("\u{2066}\u{2069}\u{61c}".as_bytes(), "\\u{2066}\\u{2069}\\u{61c}"),
            ("\u{2028}\u{feff}\u{200b}".as_bytes(), "\\u{2028}\\u{feff}\\u{200b}"),
            ("\u{e0041}".as_bytes(), "\\u{e0041}"),
            ("\u{915}\u{200d}\u{200c}".as_bytes(), "\u{915}\u{200d}\u{200c}"),
            (b"\xff\xfe", "\\xff\\xfe"),
            (b"cut \xe2\x82", "cut \\xe2\\x82"),
            // A single byte 9b is a control of old terminals, and no UTF-8.
            (b"\x9b2J", "\\x9b2J"),
            (b"C:\\x41", "C:\\\\x41"),
            (b"<script>\"'&", "<script>\"'&"),
            (b"", ""),
        ] {
            assert_eq!(inert(name), text);
            assert_eq!(raw(text).as_deref(), Some(name), "{text}");
        }
    }

    #[test]
    fn names_that_only_some_systems_take_are_known() {
        for name in
            ["a", ".a", "a.b", "console", "com", "COM0", "com10", "nulls.txt", "Z\u{fc}rich"]
        {
            assert!(is_portable(name.as_bytes()), "{name}");
        }
        for name in [
            "a:b", "a.", "a ", "what?", "a\\b", "\"", "a|b", "<", "*", "CON", "nul", "Aux.txt",
            "com1", "LPT9.old", "a\nb",
        ] {
            assert!(!is_portable(name.as_bytes()), "{name:?}");
        }
        assert!(!is_portable(b"\xff"));
    }

    #[test]
    fn text_that_no_name_is_written_as_is_refused() {
        for text in [
            "\\",
            "a\\",
            "\\q",
            "\\x",
            "\\x1",
            "\\xzz",
            "\\x1B",
            "\\x41",
            "\\x0a",
            "\\u",
            "\\u{}",
            "\\u{41}",
            "\\u{202E}",
            "\\u{110000}",
            "\\u{d800}",
            "\\u{202e",
            "a\nb",
            "\u{202e}",
            "\\x+1",
            "\\xc3\\xbc",
            "\\xé",
            "\\é",
        ] {
            assert_eq!(raw(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_name_has_one_inert_text(
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
            text in "\\PC{0,10}[\\x00-\\x20\u{80}-\u{a0}\u{2000}-\u{2070}\\\\]{0,9}",
        ) {
            for name in [bytes.as_slice(), text.as_bytes()] {
                let shown = inert(name);
                prop_assert!(!shown.chars().any(|c| c.is_control() || is_loose(c)), "{}", shown);
                let back = raw(&shown);
                prop_assert_eq!(back.as_deref(), Some(name));
            }
        }

        #[test]
        fn any_text_reads_or_fails_cleanly(text in "[\\\\xu{}0-9a-fé]{0,12}") {
            if let Some(name) = raw(&text) {
                prop_assert_eq!(inert(&name), text);
            }
        }
    }
}
