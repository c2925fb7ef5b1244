//! The frozen vectors of `tests/vectors/`: what a second implementation is checked against.
//!
//! Each file is made again in memory from fixed seeds and compared byte for byte, so that no change
//! of a layout goes unnoticed. With `QULOUD_WRITE_VECTORS=1` the files are written (then run it
//! once more without): only for a layout that is meant to change. Besides, each file is read and
//! checked on its own: the good vectors against [`oracle`], which is written from
//! `proto/PROTOCOL.md` without this crate's code, and the bad ones (`*-bad.txt`) must fail, each
//! for its reason.
//!
//! The format needs no library: `#` comments, then records of a `[name]` and `field = value` lines.
//! Bytes are in lower-case hexadecimal, a field that stands several times is a list.

mod ack;
mod answer;
mod audit;
mod capability;
mod chunk;
mod domains;
mod file;
mod frame;
mod header;
mod keyfile;
mod keys;
mod oracle;
mod proof;
mod standing;
mod topic;

use rand::{TryCryptoRng, TryRng};
use std::convert::Infallible;
use std::fmt::Write;
use std::path::PathBuf;

/// One vector.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    name: String,
    fields: Vec<(String, String)>,
}

impl Record {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), fields: Vec::new() }
    }

    fn text(mut self, field: &str, value: impl ToString) -> Self {
        self.fields.push((field.to_owned(), value.to_string()));
        self
    }

    fn hex(self, field: &str, value: impl AsRef<[u8]>) -> Self {
        self.text(field, hex::encode(value))
    }

    fn all(&self, field: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(name, _)| name == field).map(|(_, value)| value.as_str())
    }

    fn has(&self, field: &str) -> bool {
        self.all(field).next().is_some()
    }

    fn get(&self, field: &str) -> &str {
        self.all(field).next().unwrap_or_else(|| panic!("[{}] has no {field}", self.name))
    }

    fn bytes(&self, field: &str) -> Vec<u8> {
        hex::decode(self.get(field)).unwrap_or_else(|_| panic!("[{}] {field}", self.name))
    }

    fn array<const N: usize>(&self, field: &str) -> [u8; N] {
        self.bytes(field).try_into().unwrap_or_else(|_| panic!("[{}] {field}", self.name))
    }

    fn number(&self, field: &str) -> u32 {
        self.get(field).parse().unwrap_or_else(|_| panic!("[{}] {field}", self.name))
    }
}

fn render(intro: &str, records: &[Record]) -> String {
    let mut out = String::new();
    for line in intro.lines() {
        writeln!(out, "# {line}").unwrap();
    }
    for record in records {
        writeln!(out, "\n[{}]", record.name).unwrap();
        for (field, value) in &record.fields {
            let line = format!("{field} = {value}");
            writeln!(out, "{}", line.trim_end()).unwrap();
        }
    }
    out
}

fn parse(text: &str) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            records.push(Record::new(name));
            continue;
        }
        let (field, value) = line.split_once('=').expect("a field line has a value");
        let record = records.last_mut().expect("a field belongs to a record");
        record.fields.push((field.trim().to_owned(), value.trim().to_owned()));
    }
    records
}

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file)
}

/// The records of a file as they stand there.
fn read(file: &str) -> Vec<Record> {
    parse(&std::fs::read_to_string(path(file)).unwrap_or_else(|why| panic!("{file}: {why}")))
}

/// Compares a file with what this crate makes today, or writes it where that is asked for.
fn freeze(file: &str, intro: &str, records: &[Record]) {
    let mut names: Vec<&str> = records.iter().map(|record| record.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), records.len(), "two records of {file} have one name");
    let made = render(intro, records);
    assert_eq!(parse(&made), records, "{file} does not read back");
    if std::env::var_os("QULOUD_WRITE_VECTORS").is_some() {
        std::fs::write(path(file), &made).unwrap();
    }
    let frozen = std::fs::read_to_string(path(file)).unwrap_or_default();
    let changed = made.lines().zip(frozen.lines()).find(|(made, frozen)| made != frozen);
    assert!(made == frozen, "{file} is no longer what the code makes; first change: {changed:?}");
}

/// Gives the bytes it was made with, and panics when asked for more.
struct Fixed(Vec<u8>);

impl Fixed {
    fn new(parts: &[&[u8]]) -> Self {
        Self(parts.concat())
    }
}

impl TryRng for Fixed {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes).map(|()| u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes).map(|()| u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        let rest = self.0.split_off(to.len());
        to.copy_from_slice(&self.0);
        self.0 = rest;
        Ok(())
    }
}

impl TryCryptoRng for Fixed {}

/// Bytes that are easy to recognise: `from`, `from + 1`, and so on.
fn counted<const N: usize>(from: u8) -> [u8; N] {
    let step = |at: usize| u8::try_from(at % 256).expect("it is below 256");
    std::array::from_fn(|at| from.wrapping_add(step(at)))
}

#[test]
fn there_are_at_least_a_hundred_vectors_that_must_fail() {
    let files =
        ["header-bad.txt", "proof-bad.txt", "ack-bad.txt", "answer-bad.txt", "capability-bad.txt"];
    let total: usize = files.into_iter().map(|file| read(file).len()).sum();
    assert!(total >= 100, "{total}");
}
