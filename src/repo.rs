//! Files to chunks and back.
//!
//! | file | what it holds |
//! |---|---|
//! | [`frame`] | what a seal encloses: kind, compression, padding (pure) |
//! | [`chunker`] | cuts a stream where its content says so (pure) |
//! | [`listing`] | which chunks make a file: the root that a capability names (pure) |
//! | [`sealer`] | plaintexts to sealed chunks, and where those go (pure) |
//! | [`open`] | a chunk that came: its checks, its plaintext (pure) |
//! | [`reference`](mod@reference), [`varint`] | the two layouts that all of these share (pure) |
//! | `blocks` | a file's blocks, taken in advance and given back |
//! | `fields`, `record` | what snapshots, manifests and heads share; what journals do |
//! | [`ranges`] | which bytes of a file are there (pure) |
//! | [`tree`] | what is recorded of a snapshot's files (pure) |
//! | [`pack`] | small files side by side in one chunk (pure) |
//! | [`known`] | which small files are in packs already (pure) |
//! | [`snapshot`] | what was backed up, when, and its tree (pure) |
//! | [`engine`] | entries and contents in, a sealed tree out: a backup without a disk (pure) |
//! | [`manifest`] | what each device did to its snapshots, as a chain of entries (pure) |
//! | [`head`] | what a head says, and which of many records counts (pure) |
//! | [`retain`], [`mark`] | which snapshots a policy keeps; which chunks those need (pure) |
//! | [`prunes`] | which chunks may be let go, and when a forget is believed (pure) |
//! | [`grace`] | how long the replicas of silent holders count (pure) |
//! | [`near`] | which holders share a failure domain, and which of them count (pure) |
//! | [`standing`] | what audits of a holder came to, and where it stands (pure) |
//! | [`debt`] | what a holder owes an answer for (pure) |
//! | [`turn`] | what a holder is asked for, when, and what of it is written down (pure) |
//! | [`served`] | whether holders hand over what they prove: whom to try, whom to blame (pure) |
//! | [`verify`] | whether all that a snapshot names is there and right (pure) |
//! | [`look`] | what `mark`, `diff`, `find` and `ls` are: they ask, and are given (pure) |
//! | [`diff`], [`find`], [`ls`] | what two trees differ in; what is in one (pure) |
//! | [`names`], [`calendar`] | names that do nothing to a terminal; days and years (pure) |
//! | [`pattern`], [`exclude`] | gitignore's patterns, and what a backup leaves out by them (pure) |
//! | `walk` | the files of a disk, in the order of trees |
//! | `scan` | a walk beside the tree before it: what is unchanged, and the content of the rest |
//! | `backup` | a scan into the engine: a backup without a mesh |
//! | [`plan`] | a file's data in, which chunks to fetch and which bytes go where out (pure) |
//! | [`restore`] | a snapshot in, its files back on the disk |
//! | [`put`] | a file in: pieces, sealed chunks, a capability (the disk in `put::file`) |
//! | [`get`] | a capability in: the file, resumable (the disk in `get::file`) |
//! | `again` | sealed chunks made again from the files that they were cut from |
//! | `meta` | the owner's copy of what leads to its files |
//! | `unfinished` | what a backup has done that was broken off |
//! | `catalog` | what was put, what is still to be put, who holds which chunk |

#[cfg(feature = "node")]
pub mod again;
#[cfg(feature = "node")]
pub mod backup;
#[cfg(feature = "node")]
mod blocks;
pub mod calendar;
#[cfg(feature = "node")]
pub mod catalog;
pub mod chunker;
pub mod debt;
pub mod diff;
pub mod engine;
pub mod evidence;
pub mod exclude;
mod fields;
pub mod find;
pub mod frame;
pub mod get;
pub mod grace;
pub mod head;
pub mod known;
pub mod listing;
pub mod look;
pub mod ls;
pub mod manifest;
pub mod mark;
#[cfg(feature = "node")]
pub mod meta;
pub mod names;
pub mod near;
pub mod open;
pub mod pack;
pub mod pattern;
pub mod plan;
pub mod prunes;
pub mod put;
pub mod ranges;
#[cfg(feature = "node")]
mod record;
pub mod reference;
#[cfg(feature = "node")]
pub mod restore;
pub mod retain;
#[cfg(feature = "node")]
pub mod scan;
pub mod sealer;
pub mod served;
pub mod snapshot;
pub mod standing;
pub mod tree;
pub mod turn;
#[cfg(feature = "node")]
pub mod unfinished;
pub mod varint;
pub mod verify;
#[cfg(feature = "node")]
pub mod walk;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod vectors;
