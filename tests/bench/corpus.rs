//! Makes the folder that `scripts/bench.sh` backs up, and edits it in place: from a seed, so that
//! two machines have the same bytes.
//!
//! ```text
//! corpus make DIR [BIG_MIB] [SMALL]    4 files of BIG_MIB / 4 MiB each (1,024 in all) and SMALL
//!                                      (20,000) of 1 to 64 KiB
//! corpus edit DIR                      1 KiB into the middle of each big file, a line into the
//!                                      middle of 1 % of the small ones, and another name for 5 %
//! ```
//! The big ones cannot be compressed. The small ones look like text, 20 KiB on average, a hundred
//! in a folder.

use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

const MIB: usize = 1 << 20;
const BIG_FILES: usize = 4;
const IN_A_FOLDER: usize = 100;
const WORDS: usize = 6_000;
const LETTERS: &[u8] = b"etaoinshrdlucmfwypvbgk";

/// The generator of one part of the corpus.
fn rng(part: &str, number: usize) -> ChaCha20Rng {
    let mut seed = [0; 32];
    let name = format!("{part} {number}");
    seed.iter_mut().zip(name.bytes()).for_each(|(seed, byte)| *seed = byte);
    ChaCha20Rng::from_seed(seed)
}

fn big(root: &Path, number: usize) -> PathBuf {
    root.join(format!("big/{number}.bin"))
}

fn small(root: &Path, number: usize) -> PathBuf {
    root.join(format!("small/{:03}/{number:05}.txt", number / IN_A_FOLDER))
}

/// Words of 2 to 11 letters; the n-th is said about 1/n times as often as the first.
struct Vocabulary {
    words: Vec<Vec<u8>>,
    /// The sum of the weights up to each word.
    weights: Vec<f64>,
}

impl Vocabulary {
    fn new() -> Self {
        let mut rng = rng("words", 0);
        let mut word = || {
            let length = rng.random_range(2..=11);
            (0..length).map(|_| LETTERS[rng.random_range(0..LETTERS.len())]).collect()
        };
        let words: Vec<Vec<u8>> = (0..WORDS).map(|_| word()).collect();
        let mut sum = 0.0;
        let weight = |number: usize| {
            sum += 1.0 / (number as f64 + 3.0);
            sum
        };
        Self { words, weights: (0..WORDS).map(weight).collect() }
    }

    /// A text of so many bytes.
    fn text(&self, bytes: usize, rng: &mut impl Rng) -> Vec<u8> {
        let whole = self.weights[WORDS - 1];
        let mut text = Vec::with_capacity(bytes + 16);
        while text.len() < bytes {
            let at = rng.random_range(0.0..whole);
            let word = self.weights.partition_point(|weight| *weight < at);
            text.extend_from_slice(&self.words[word]);
            text.push(if rng.random_range(0..12) == 0 { b'\n' } else { b' ' });
        }
        text.truncate(bytes);
        text
    }
}

fn make(root: &Path, big_mib: usize, small_files: usize) -> io::Result<()> {
    fs::create_dir_all(root.join("big"))?;
    for number in 0..BIG_FILES {
        let (mut rng, mut block) = (rng("big", number), vec![0; MIB]);
        let mut file = File::create_new(big(root, number))?;
        for _ in 0..big_mib / BIG_FILES {
            rng.fill_bytes(&mut block);
            file.write_all(&block)?;
        }
    }
    let vocabulary = Vocabulary::new();
    for number in 0..small_files {
        let (path, mut rng) = (small(root, number), rng("small", number));
        if number % IN_A_FOLDER == 0 {
            fs::create_dir_all(path.parent().unwrap_or(root))?;
        }
        let share = rng.random_range(0.0_f64..1.0).powf(2.3);
        let bytes = 1024 + (share * (63.0 * 1024.0)) as usize;
        fs::write(path, vocabulary.text(bytes, &mut rng))?;
    }
    Ok(())
}

/// Writes what `write` writes into a new file that takes the place of the old one.
fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let aside = path.with_extension("aside");
    let mut file = BufWriter::with_capacity(MIB, File::create(&aside)?);
    write(&mut file)?;
    file.flush()?;
    fs::rename(aside, path)
}

fn edit(root: &Path) -> io::Result<()> {
    for number in 0..BIG_FILES {
        let (path, mut inserted) = (big(root, number), vec![0; 1024]);
        rng("insert", number).fill_bytes(&mut inserted);
        let mut old = File::open(&path)?;
        let half = old.metadata()?.len() / 2;
        replace(&path, |new| {
            io::copy(&mut (&mut old).take(half), new)?;
            new.write_all(&inserted)?;
            io::copy(&mut old, new).map(drop)
        })?;
    }
    let mut numbers: Vec<usize> = (0..).take_while(|one| small(root, *one).exists()).collect();
    let (edited, renamed) = (numbers.len() / 100, numbers.len() / 20);
    let mut rng = rng("edit", 0);
    numbers.shuffle(&mut rng);
    for number in &numbers[..edited] {
        let path = small(root, *number);
        let old = fs::read(&path)?;
        let (first, last) = old.split_at(old.len() / 2);
        let line = format!(" edited {:016x} ", rng.random::<u64>());
        replace(&path, |new| {
            [first, line.as_bytes(), last].into_iter().try_for_each(|part| new.write_all(part))
        })?;
    }
    for number in &numbers[edited..edited + renamed] {
        let path = small(root, *number);
        fs::rename(&path, path.with_extension("renamed.txt"))?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<usize>().map_err(io::Error::other);
    match words.as_slice() {
        ["make", root] => make(Path::new(root), 1_024, 20_000),
        ["make", root, big_mib, files] => make(Path::new(root), number(big_mib)?, number(files)?),
        ["edit", root] => edit(Path::new(root)),
        _ => Err(io::Error::other("corpus make DIR [BIG_MIB SMALL] | corpus edit DIR")),
    }
}
