//! Gitignore's patterns, on bytes. Pure.
//!
//! What a pattern means is what `gitignore(5)` says: one without a `/` but at its end is matched
//! with a name in whatever folder; one with a `/` is matched with the whole path, from the top.
//! `*`, `?` and `[..]` take no `/`; `**` as a whole component takes any number of folders. Upper
//! and lower case differ. Paths are relative, without a `/` at either end.
//!
//! Matching takes time in the order of the path's length times the pattern's, squared where the
//! pattern has `**`: no pattern makes it exponential.

/// The longest pattern.
pub const PATTERN_BYTES_MAX: usize = 4_096;

/// Why bytes are not a pattern that could match anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternFault {
    /// A `[` without its `]`, or a class like `[:alpha:]` that does not exist.
    #[error("a [ is never closed, or names a class that does not exist; write \\[ for the letter")]
    Set,
    /// A `\` at the end.
    #[error("a \\ at the end has nothing to stand before; write \\\\ for the letter")]
    Backslash,
    /// Above [`PATTERN_BYTES_MAX`].
    #[error("the pattern has {0} bytes, and {PATTERN_BYTES_MAX} are the most")]
    TooLong(usize),
}

/// One pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    source: Vec<u8>,
    negated: bool,
    folders_only: bool,
    whole_path: bool,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone)]
enum Token {
    Byte(u8),
    /// `?`: any byte but `/`.
    Any,
    /// `[..]`
    Set(Box<Set>),
    /// `*`: any bytes but `/`.
    Star,
    /// `**/`: nothing, or any bytes up to and with a `/`.
    Folders,
    /// `**` at the end: any bytes.
    All,
}

impl Token {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(own) => *own == byte,
            Self::Any => byte != b'/',
            Self::Set(set) => byte != b'/' && set.has(byte),
            Self::Star | Self::Folders | Self::All => false,
        }
    }
}

impl Pattern {
    /// Reads a pattern as it is: every byte counts. `None` where nothing is left of it to match.
    ///
    /// # Errors
    /// [`PatternFault`].
    pub fn parse(source: &[u8]) -> Result<Option<Self>, PatternFault> {
        if source.len() > PATTERN_BYTES_MAX {
            return Err(PatternFault::TooLong(source.len()));
        }
        let (negated, text) = match source.strip_prefix(b"!") {
            Some(text) => (true, text),
            None => (false, source),
        };
        let (folders_only, text) = match text.strip_suffix(b"/") {
            Some(text) => (true, text),
            None => (false, text),
        };
        let whole_path = text.contains(&b'/');
        let text = text.strip_prefix(b"/").unwrap_or(text);
        if text.is_empty() {
            return Ok(None);
        }
        let tokens = compile(text)?;
        Ok(Some(Self { source: source.to_vec(), negated, folders_only, whole_path, tokens }))
    }

    /// Reads a line of a file of patterns: without its end, without spaces at the end that no `\`
    /// stands before; `None` also where it is empty or begins with `#`.
    ///
    /// # Errors
    /// [`PatternFault`].
    pub fn parse_line(line: &[u8]) -> Result<Option<Self>, PatternFault> {
        if line.first() == Some(&b'#') {
            return Ok(None);
        }
        Self::parse(trimmed(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// Whether it brings back what an earlier pattern leaves out: it began with `!`.
    pub fn is_negated(&self) -> bool {
        self.negated
    }

    /// As it was given.
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// Whether it speaks of this path, whichever way it is [negated](Self::is_negated). Of what
    /// lies in a folder that it speaks of, it does not.
    pub fn matches(&self, path: &[u8], is_folder: bool) -> bool {
        if self.folders_only && !is_folder {
            return false;
        }
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        run(&self.tokens, if self.whole_path { path } else { name })
    }
}

/// Without spaces at the end, but those behind a `\`.
fn trimmed(line: &[u8]) -> &[u8] {
    let (mut end, mut escaped) = (0, false);
    for (at, byte) in line.iter().enumerate() {
        if escaped || *byte != b' ' {
            end = at + 1;
        }
        escaped = !escaped && *byte == b'\\';
    }
    line.get(..end).unwrap_or(line)
}

fn compile(text: &[u8]) -> Result<Vec<Token>, PatternFault> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'*' => {
                let stars = text.iter().skip(at).take_while(|byte| **byte == b'*').count();
                let next = text.get(at + stars);
                let begins = at == 0 || text.get(at - 1) == Some(&b'/');
                at += stars;
                tokens.push(match next {
                    Some(b'/') if stars > 1 && begins => {
                        at += 1;
                        Token::Folders
                    }
                    None if stars > 1 && begins => Token::All,
                    _ => Token::Star,
                });
            }
            b'?' => {
                tokens.push(Token::Any);
                at += 1;
            }
            b'[' => {
                let (set, bytes) =
                    Set::parse(text.get(at + 1..).unwrap_or_default()).ok_or(PatternFault::Set)?;
                tokens.push(Token::Set(Box::new(set)));
                at += 1 + bytes;
            }
            b'\\' => {
                let byte = text.get(at + 1).ok_or(PatternFault::Backslash)?;
                tokens.push(Token::Byte(*byte));
                at += 2;
            }
            byte => {
                tokens.push(Token::Byte(*byte));
                at += 1;
            }
        }
    }
    Ok(tokens)
}

/// Whether the tokens take all of the text. Where a token does not fit, the last `*` takes one byte
/// more; where that would be a `/`, the last `**` one folder more. Those before need no other try:
/// what follows them was found as early as it can be.
fn run(tokens: &[Token], text: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    // The token behind it, and how far it has taken the text.
    let mut star: Option<(usize, usize)> = None;
    let mut deep: Option<(usize, usize)> = None;
    loop {
        match (tokens.get(token), text.get(at)) {
            (None, None) | (Some(Token::All), _) => return true,
            (Some(Token::Star), _) => {
                token += 1;
                star = Some((token, at));
                continue;
            }
            (Some(Token::Folders), _) => {
                token += 1;
                (star, deep) = (None, Some((token, at)));
                continue;
            }
            (Some(next), Some(byte)) if next.takes(*byte) => {
                token += 1;
                at += 1;
                continue;
            }
            _ => {}
        }
        let rest = |from: usize| text.get(from..).unwrap_or_default();
        if let Some((after, from)) = star
            && rest(from).first().is_some_and(|byte| *byte != b'/')
        {
            (token, at) = (after, from + 1);
            star = Some((token, at));
            continue;
        }
        let Some((after, from)) = deep else { return false };
        let Some(slash) = rest(from).iter().position(|byte| *byte == b'/') else { return false };
        (token, at) = (after, from + slash + 1);
        (star, deep) = (None, Some((token, at)));
    }
}

/// A set of bytes.
#[derive(Debug, Clone, Default)]
struct Set([u64; 4]);

impl Set {
    /// Reads from behind a `[` to its `]`; how many bytes that is.
    fn parse(text: &[u8]) -> Option<(Self, usize)> {
        let mut set = Self::default();
        let negated = matches!(text.first(), Some(b'!' | b'^'));
        let mut at = usize::from(negated);
        let first = at;
        let mut before = None;
        loop {
            let byte = *text.get(at)?;
            match byte {
                b']' if at > first => break,
                b'[' if text.get(at + 1) == Some(&b':') => {
                    before = None;
                    match class(text.get(at + 2..)?)? {
                        Class::Bytes(holds, bytes) => {
                            set.add_all((0..=u8::MAX).filter(holds));
                            at += 2 + bytes;
                        }
                        Class::NoClass => {
                            set.add_all([byte]);
                            before = Some(byte);
                            at += 1;
                        }
                    }
                    continue;
                }
                b'-' if before.is_some() && text.get(at + 1).is_some_and(|end| *end != b']') => {
                    at += 1;
                    let end = escaped(text, &mut at)?;
                    set.add_all(before.take()?..=end);
                }
                _ => {
                    let byte = escaped(text, &mut at)?;
                    set.add_all([byte]);
                    before = Some(byte);
                }
            }
            at += 1;
        }
        if negated {
            set.0.iter_mut().for_each(|word| *word = !*word);
        }
        Some((set, at + 1))
    }

    fn add_all(&mut self, bytes: impl IntoIterator<Item = u8>) {
        for byte in bytes {
            if let Some(word) = self.0.get_mut(usize::from(byte >> 6)) {
                *word |= 1 << (byte & 63);
            }
        }
    }

    fn has(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte >> 6)).is_some_and(|word| word >> (byte & 63) & 1 == 1)
    }
}

/// The byte here, or behind the `\` that is here.
fn escaped(text: &[u8], at: &mut usize) -> Option<u8> {
    if text.get(*at) == Some(&b'\\') {
        *at += 1;
    }
    text.get(*at).copied()
}

enum Class {
    /// Which bytes, and how long it is with its `:]`.
    Bytes(fn(&u8) -> bool, usize),
    /// A `[` and a `:` that just stand there.
    NoClass,
}

/// What stands behind `[:`; `None` where it is never closed or no class has that name.
fn class(text: &[u8]) -> Option<Class> {
    let end = text.iter().position(|byte| *byte == b']')?;
    let Some(name) = text.get(..end)?.strip_suffix(b":") else {
        return Some(Class::NoClass);
    };
    let holds: fn(&u8) -> bool = match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| *byte == b' ' || byte.is_ascii_graphic(),
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    };
    Some(Class::Bytes(holds, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &[u8], path: &[u8], is_folder: bool) -> bool {
        Pattern::parse(pattern).unwrap().unwrap().matches(path, is_folder)
    }

    #[test]
    fn patterns_mean_what_gitignore_says() {
        for (pattern, yes, no) in [
            ("foo", "foo a/foo a/b/foo", "foobar a/foobar foo/b"),
            ("/foo", "foo", "a/foo"),
            ("a/b", "a/b", "b x/a/b a/b/c"),
            ("*.o", "x.o a/x.o .o", "x.o.c"),
            ("/*.o", "x.o", "a/x.o"),
            ("a/*/c", "a/b/c", "a/c a/b/b/c"),
            ("a?c", "abc x/a-c", "ac a/c"),
            ("**/foo", "foo a/foo a/b/foo", "a/foo/b xfoo"),
            ("foo/**", "foo/a foo/a/b", "foo x/foo/a"),
            ("a/**/b", "a/b a/x/b a/x/y/b", "ab a/xb x/a/b"),
            ("**/a/**/b/*.c", "a/b/x.c q/a/y/b/x.c a/a/b/b/x.c", "a/x.c b/x.c a/b/c/x.c"),
            ("a**b", "ab axxb x/axb", "axc"),
            ("a/x**y", "a/xy a/xzzy", "a/x/y"),
            ("**", "a a/b", ""),
            ("***/a", "a x/a x/y/a", "b"),
            ("[a-c]x", "ax bx q/cx", "dx -x"),
            ("[!a-c]x", "dx", "ax bx"),
            ("[^a]", "b", "a"),
            ("[]a]x", "]x ax", "bx"),
            ("[!]a]x", "bx", "]x ax"),
            ("[a-]x", "ax -x", "bx"),
            ("[\\]]x", "]x", "\\x"),
            ("[[:digit:]x]y", "1y xy", "ay"),
            ("[[:x]y", ":y [y xy", "ay"),
            ("a[/]b", "", "a/b a[/]b"),
            ("\\*", "*", "a \\*"),
            ("\\!a", "!a", "a"),
            ("x\\ y", "x y", "xy"),
        ] {
            for path in yes.split(' ').filter(|path| !path.is_empty() && !pattern.contains(' ')) {
                assert!(matches(pattern.as_bytes(), path.as_bytes(), false), "{pattern} {path}");
            }
            for path in no.split(' ').filter(|path| !path.is_empty() && !pattern.contains(' ')) {
                assert!(!matches(pattern.as_bytes(), path.as_bytes(), false), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn a_slash_at_the_end_means_folders_only() {
        assert!(matches(b"foo/", b"a/foo", true) && !matches(b"foo/", b"a/foo", false));
        assert!(matches(b"a/foo/", b"a/foo", true) && !matches(b"a/foo/", b"x/a/foo", true));
    }

    #[test]
    fn names_that_are_no_text_are_bytes() {
        assert!(matches(b"\xff*", b"\xff\xfe", false));
        assert!(matches(b"[\x80-\xff]", b"\xc3", false));
        assert!(matches(b"??", "\u{e4}".as_bytes(), false));
    }

    #[test]
    fn lines_are_trimmed_and_comments_left_out() {
        let parse = |line: &[u8]| Pattern::parse_line(line).unwrap();
        for line in [b"".as_slice(), b"   ", b"# comment", b"/", b"!", b"\r"] {
            assert!(parse(line).is_none(), "{line:?}");
        }
        let source = |line: &[u8]| parse(line).unwrap().source().to_vec();
        assert_eq!(source(b"a b  \r"), b"a b");
        assert_eq!(source(b"a\\  "), b"a\\ ");
        assert_eq!(source(b"\\#a"), b"\\#a");
        assert!(parse(b"!a").unwrap().is_negated());
        assert!(!Pattern::parse(b"# a").unwrap().unwrap().is_negated());
    }

    #[test]
    fn what_can_never_match_is_said() {
        for (text, fault) in [
            (b"a[b".as_slice(), PatternFault::Set),
            (b"[", PatternFault::Set),
            (b"[[:nothing:]]", PatternFault::Set),
            (b"[a\\", PatternFault::Set),
            (b"a\\", PatternFault::Backslash),
            (&[b'a'; 5_000], PatternFault::TooLong(5_000)),
        ] {
            assert_eq!(Pattern::parse(text).unwrap_err(), fault, "{text:?}");
        }
    }

    #[test]
    fn no_pattern_takes_for_ever() {
        let path = [b'a'; 4_000];
        assert!(!matches(&b"a*".repeat(1_000), &[&path[..], b"b/".as_slice()].concat(), false));
        let folders = b"a/".repeat(2_000);
        assert!(!matches(&[&b"**/a/".repeat(500)[..], b"b"].concat(), &folders, false));
    }

    /// What `run` says without its shortcut: every way is tried.
    fn tried(tokens: &[Token], text: &[u8]) -> bool {
        let Some((first, rest)) = tokens.split_first() else { return text.is_empty() };
        match first {
            Token::All => true,
            Token::Star => (0..=text.len())
                .take_while(|at| !text[..*at].contains(&b'/'))
                .any(|at| tried(rest, &text[at..])),
            Token::Folders => {
                let behind = |at: usize| at == 0 || text[at - 1] == b'/';
                (0..=text.len()).filter(|at| behind(*at)).any(|at| tried(rest, &text[at..]))
            }
            one => text.split_first().is_some_and(|(b, text)| one.takes(*b) && tried(rest, text)),
        }
    }

    proptest! {
        #[test]
        fn the_shortcut_finds_what_every_way_would(
            pattern in "([ab?*]|\\*\\*/|/|[*][*]){1,9}",
            path in "[ab]{1,3}(/[ab]{1,3}){0,4}",
        ) {
            if let Some(pattern) = Pattern::parse(pattern.as_bytes()).unwrap() {
                let expected = tried(&pattern.tokens, path.as_bytes());
                prop_assert_eq!(run(&pattern.tokens, path.as_bytes()), expected);
            }
        }

        #[test]
        fn any_bytes_parse_or_fail_cleanly(
            pattern in proptest::collection::vec(any::<u8>(), 0..30),
            path in proptest::collection::vec(any::<u8>(), 0..30),
        ) {
            if let Ok(Some(pattern)) = Pattern::parse_line(&pattern) {
                pattern.matches(&path, true);
            }
        }
    }
}
