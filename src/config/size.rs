//! Sizes as people write them: `500GB` (powers of ten), `1TiB` (powers of two), plain bytes.

/// Units, largest first; within one magnitude the binary one is the larger.
const UNITS: [(&str, u64); 11] = [
    ("PiB", 1 << 50),
    ("PB", 1_000_000_000_000_000),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Why a text is not a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// It does not begin with a number.
    #[error("a size is a number and a unit, such as 500GB or 1TiB")]
    Number,
    /// Its unit is not known. `G` alone is refused too: it means two things.
    #[error("the units are B, KB, MB, GB, TB, PB (1000) and KiB, MiB, GiB, TiB, PiB (1024)")]
    Unit,
    /// It is more than 2^64 - 1 bytes.
    #[error("it is larger than any disk")]
    TooLarge,
}

/// Reads a size in bytes. Case does not matter, a space before the unit is allowed, and so are
/// decimals (`1.5TB`), which are cut to whole bytes.
///
/// # Errors
/// [`SizeError`] says what would be right.
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(SizeError::Number);
    }
    let scale = match unit.trim() {
        "" => 1,
        unit => {
            let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
            known.ok_or(SizeError::Unit)?.1
        }
    };
    let whole: u64 = whole.parse().map_err(|_| SizeError::TooLarge)?;
    let whole = whole.checked_mul(scale).ok_or(SizeError::TooLarge)?;
    whole.checked_add(part(fraction, scale)).ok_or(SizeError::TooLarge)
}

/// `scale * 0.fraction`, cut to whole bytes. Digits past the fifteenth are below one byte.
fn part(fraction: &str, scale: u64) -> u64 {
    let digits = fraction.bytes().take(15).map(|digit| u128::from(digit.saturating_sub(b'0')));
    let (numerator, denominator) =
        digits.fold((0u128, 1u128), |(n, d), digit| (n * 10 + digit, d * 10));
    u64::try_from(u128::from(scale) * numerator / denominator).unwrap_or(u64::MAX)
}

/// The size in the largest unit that divides it, so that [`parse`] gives it back exactly.
pub fn exact(bytes: u64) -> String {
    let unit = UNITS.iter().find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale));
    match unit {
        Some((name, scale)) => format!("{}{name}", bytes / scale),
        None => format!("{bytes}B"),
    }
}

/// The size for people: three digits and a unit of a thousand (`1.41 GB`, `12.0 kB`, `999 B`).
pub fn human(bytes: u64) -> String {
    const NAMES: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut thousandths = u128::from(bytes) * 1000;
    let mut names = NAMES.iter();
    let mut name = names.next().unwrap_or(&"B");
    while thousandths >= 999_500 {
        let Some(next) = names.next() else { break };
        thousandths = (thousandths + 500) / 1000;
        name = next;
    }
    match thousandths {
        _ if *name == "B" => format!("{bytes} B"),
        0..9_995 => {
            let hundredths = (thousandths + 5) / 10;
            format!("{}.{:02} {name}", hundredths / 100, hundredths % 100)
        }
        9_995..99_950 => {
            let tenths = (thousandths + 50) / 100;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        _ => format!("{} {name}", (thousandths + 500) / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_written() {
        let cases = [
            ("0", 0),
            ("1", 1),
            ("500GB", 500_000_000_000),
            ("1TiB", 1 << 40),
            ("10 gb", 10_000_000_000),
            ("1.5TB", 1_500_000_000_000),
            ("0.5KiB", 512),
            ("12kb", 12_000),
            (" 7B ", 7),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for (text, error) in [
            ("", SizeError::Number),
            ("GB", SizeError::Number),
            ("-1GB", SizeError::Number),
            ("1.GB", SizeError::Number),
            ("1.2.3GB", SizeError::Number),
            ("500G", SizeError::Unit),
            ("5 parsecs", SizeError::Unit),
            ("99999999PB", SizeError::TooLarge),
            ("99999999999999999999", SizeError::TooLarge),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        assert_eq!(parse("18446744073709551615.5B"), Ok(u64::MAX), "half a byte is cut");
    }

    #[test]
    fn exact_text_reads_back() {
        for bytes in [0, 1, 999, 1000, 1024, 1 << 30, 100_000_000_000, u64::MAX, 123_456_789] {
            assert_eq!(parse(&exact(bytes)), Ok(bytes));
        }
        assert_eq!(exact(100_000_000_000), "100GB");
        assert_eq!(exact(1 << 40), "1TiB");
    }

    #[test]
    fn human_text_has_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (12_000, "12.0 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (1_413_000_000, "1.41 GB"),
            (99_960_000, "100 MB"),
        ] {
            assert_eq!(human(bytes), text);
        }
        assert!(human(u64::MAX).ends_with("EB"));
    }
}
