//! Work over a map of plaintexts, and over a mesh that is a map.

use super::*;
use crate::core::types::{ChunkId, Locality};
use crate::repo::engine::{BackupSink, DoneLeaf, Engine, Pieces, Unreadable};
use crate::repo::fixture::{Mesh, noise, owner};
use crate::repo::known::Known;
use crate::repo::ls::{Depth, Ls};
use crate::repo::sealer::Held;
use crate::repo::tree::tests::{file, folder};
use crate::repo::tree::{Content, What};
use std::collections::BTreeMap;

/// All that work finds, and what it asked for.
type Ran<L> = Result<(Vec<<L as Look>::Found>, Vec<ChunkId>), <L as Look>::Fault>;

/// Does work; the newest question is answered first.
pub(in crate::repo) fn run<L: Look>(work: &mut L, chunks: &BTreeMap<ChunkId, Bytes>) -> Ran<L> {
    let (mut found, mut asked, mut open) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        match work.step()? {
            Seen::Found(one) => found.push(one),
            Seen::End => return Ok((found, asked)),
            Seen::Wait => {
                open.extend(std::iter::from_fn(|| work.wanted()));
                let need: Need = open.pop().expect("work that waits has asked");
                asked.push(need.reference.id);
                let lost = || Lost::Unavailable("nobody has it".into());
                let plaintext = chunks.get(&need.reference.id).cloned().ok_or_else(lost);
                work.give(need.index, plaintext);
            }
        }
    }
}

struct Nobody;

impl Held for Nobody {
    fn is_held(&self, _: &ChunkId) -> bool {
        false
    }
}

struct Once(Option<Vec<u8>>);

impl Pieces for Once {
    type Piece = Vec<u8>;

    fn next(&mut self) -> Result<Option<Vec<u8>>, Unreadable> {
        Ok(self.0.take())
    }
}

impl BackupSink for Mesh {
    fn leaf_done(&mut self, _: &DoneLeaf) {}
}

#[test]
fn a_reader_brings_sealed_chunks_to_the_work() {
    let (keys, mut mesh) = (owner(1), Mesh::default());
    let mut engine = Engine::new((&keys, Locality(9)), Known::new(), &Nobody, &mut mesh);
    engine.keep(&folder("data")).unwrap();
    let mut entry = file("data/one", 1_000);
    if let What::File(body) = &mut entry.what {
        body.content = Content::None;
    }
    engine.store(entry, &mut Once(Some(noise(1_000, 1)))).unwrap();
    let root = engine.finish().unwrap().root.unwrap();
    let mut reader = Reader::new(&mut mesh);
    let mut ls = Ls::new(Some(&root), b"", Depth::All);
    let found: Vec<_> = std::iter::from_fn(|| reader.next(&mut ls).unwrap()).collect();
    assert_eq!(found.iter().map(|entry| entry.bytes()).collect::<Vec<_>>(), [0, 1_000]);
    assert_eq!(reader.chunks(), 1);
    // The same reader serves other work.
    reader.forget();
    let mut ls = Ls::new(Some(&root), b"data", Depth::One);
    assert_eq!(reader.next(&mut ls).unwrap().unwrap().path, b"data/one");
    assert!(reader.next(&mut ls).unwrap().is_none());
    assert_eq!(reader.chunks(), 2);
    // Another kind of chunk than the work expects, and one that nobody has.
    let What::File(body) = &found[1].what else { panic!("it is a file") };
    let pack = body.content.reference().unwrap().duplicate();
    let wrong = crate::repo::tree::TreeRoot { reference: pack, ..root };
    let mut ls = Ls::new(Some(&wrong), b"", Depth::All);
    assert!(matches!(Reader::new(&mut mesh).next(&mut ls), Ok(None)));
    assert_eq!(ls.gaps().listed.len(), 1);
    mesh.chunks.clear();
    let mut ls = Ls::new(Some(&wrong), b"", Depth::All);
    assert!(matches!(Reader::new(&mut mesh).next(&mut ls), Ok(None)));
    assert_eq!((ls.gaps().listed.len(), ls.gaps().entries), (1, 2));
    // And a source that gives nothing any more.
    mesh.serve_at_most = Some(mesh.served);
    let mut ls = Ls::new(Some(&wrong), b"", Depth::All);
    assert_eq!(Reader::new(&mut mesh).next(&mut ls).unwrap_err(), ReadError::Closed);
}
