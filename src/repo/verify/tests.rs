//! Over a mesh that is a map: what is whole, what is damaged, what is drawn.

use super::*;
use crate::core::types::Locality;
use crate::crypto::keys::OwnerKeys;
use crate::repo::engine::{Engine, Pieces, Unreadable};
use crate::repo::fixture::{Mesh, entries, noise, owner};
use crate::repo::known::Known;
use crate::repo::look::Reader;
use crate::repo::sealer::Held;
use crate::repo::tree::Content;
use crate::repo::tree::tests::{file, folder};
use std::collections::VecDeque as Queue;

struct Nobody;

impl Held for Nobody {
    fn is_held(&self, _: &ChunkId) -> bool {
        false
    }
}

struct Cut(Queue<Vec<u8>>);

impl Pieces for Cut {
    type Piece = Vec<u8>;

    fn next(&mut self) -> Result<Option<Vec<u8>>, Unreadable> {
        Ok(self.0.pop_front())
    }
}

const LIMITS: GetLimits = GetLimits { chunks: 8, bytes: 16 << 20 };

/// A hundred small files of 40,000 bytes, and one of four pieces.
fn stored(keys: &OwnerKeys, mesh: &mut Mesh) -> TreeRoot {
    let mut engine = Engine::new((keys, Locality(9)), Known::new(), &Nobody, mesh);
    engine.keep(&folder("data")).unwrap();
    for number in 0..100 {
        let mut entry = file(&format!("data/{number:03}"), 40_000);
        if let What::File(body) = &mut entry.what {
            body.content = Content::None;
        }
        engine.store(entry, &mut Cut([noise(40_000, number)].into())).unwrap();
    }
    let mut entry = file("data/large", 4 << 20);
    if let What::File(body) = &mut entry.what {
        body.content = Content::None;
    }
    let pieces = (200..204).map(|seed| noise(1 << 20, seed)).collect();
    engine.store(entry, &mut Cut(pieces)).unwrap();
    engine.finish().unwrap().root.unwrap()
}

fn verify(
    root: &TreeRoot,
    keys: &OwnerKeys,
    mesh: &mut Mesh,
    sample: Sample,
) -> (Vec<Finding>, Checked, u64) {
    let mut reader = Reader::new(mesh);
    let mut verify = Verify::new(Some(root), Vec::new(), sample, LIMITS, &keys.dedup);
    let mut found = Vec::new();
    while let Some(finding) = reader.next(&mut verify).unwrap() {
        found.push(finding);
    }
    (found, verify.checked(), reader.chunks())
}

#[test]
fn all_that_a_snapshot_names_is_read_once_and_found_whole() {
    let (keys, mut mesh) = (owner(1), Mesh::default());
    let root = stored(&keys, &mut mesh);
    for backwards in [false, true] {
        mesh.backwards = backwards;
        let (found, checked, _) = verify(&root, &keys, &mut mesh, Sample::all());
        assert!(found.is_empty(), "{found:?}");
        let bytes = 100 * 40_000 + (4 << 20);
        let whole = Checked { entries: 102, files: 101, bytes, ..Checked::default() };
        assert_eq!(checked, whole);
    }
}

#[test]
fn names_that_not_every_system_can_have_are_counted() {
    let (keys, mut mesh) = (owner(1), Mesh::default());
    let mut engine = Engine::new((&keys, Locality(9)), Known::new(), &Nobody, &mut mesh);
    for path in ["CON", "CON/fine", "CON/what?", "ends.", "fine"] {
        engine.keep(&folder(path)).unwrap();
    }
    let root = engine.finish().unwrap().root.unwrap();
    let mut reader = Reader::new(&mut mesh);
    let mut verify = Verify::new(Some(&root), Vec::new(), Sample::all(), LIMITS, &keys.dedup);
    assert_eq!(reader.next(&mut verify), Ok(None));
    assert_eq!((verify.checked().entries, verify.checked().unportable), (5, 3));
    assert_eq!(verify.unportable(), [&b"CON"[..], b"CON/what?", b"ends."]);
}

#[test]
fn what_is_missing_or_another_is_named_with_its_ranges() {
    let (keys, mut mesh) = (owner(1), Mesh::default());
    let root = stored(&keys, &mut mesh);
    let all = entries(&root, &mesh);
    let of = |path: &[u8]| {
        let entry = all.iter().find(|entry| entry.path == path).unwrap();
        let What::File(body) = &entry.what else { panic!("a file") };
        body.content.reference().unwrap().duplicate()
    };
    let pieces = crate::repo::fixture::pieces(&of(b"data/large"), &mesh);
    mesh.chunks.remove(&pieces[2].id);
    let pack = of(b"data/007").id;
    let sharing = all.iter().filter(|entry| match &entry.what {
        What::File(body) => body.content.reference().is_some_and(|at| at.id == pack),
        _ => false,
    });
    let sharing: Vec<Vec<u8>> = sharing.map(|entry| entry.path.clone()).collect();
    // The source of these tests does not look at the bytes.
    let (_, sealed) = mesh.chunks.get_mut(&pack).unwrap();
    let mut altered = sealed.to_vec();
    altered[100] ^= 1;
    *sealed = altered.into();
    let (found, checked, _) = verify(&root, &keys, &mut mesh, Sample::all());
    let mut damaged = Vec::new();
    for finding in found {
        let Finding::File { path, missing, missing_bytes, why } = finding else {
            panic!("{finding:?}")
        };
        if path == b"data/large" {
            assert_eq!((missing.len(), missing_bytes), (1, 1 << 20));
            assert_eq!(missing[0], 2 << 20..3 << 20);
            assert_eq!(why, Lost::Unavailable("nobody holds it".to_owned()));
        } else {
            assert!(why.is_damage(), "{why:?}");
            damaged.push(path);
        }
    }
    assert_eq!(damaged, sharing);
    let lost = sharing.len() as u64 * 40_000 + (1 << 20);
    assert_eq!(checked.bytes, 100 * 40_000 + (4 << 20) - lost);
}

#[test]
fn a_sample_reads_the_whole_tree_and_a_part_of_the_data() {
    let (keys, mut mesh) = (owner(1), Mesh::default());
    let root = stored(&keys, &mut mesh);
    let (_, all, chunks) = verify(&root, &keys, &mut mesh, Sample::all());
    let mut drawn = Vec::new();
    for key in 0..20 {
        let sample = Sample::of(ALL_PPM / 2, [key; 32]);
        let (found, checked, read) = verify(&root, &keys, &mut mesh, sample);
        assert!(found.is_empty(), "what was not drawn is not missing: {found:?}");
        assert_eq!((checked.entries, checked.files), (all.entries, all.files));
        assert_eq!(checked.bytes + checked.skipped_bytes, all.bytes);
        assert_eq!(read + checked.skipped_chunks, chunks);
        drawn.push(checked.bytes);
    }
    drawn.sort_unstable();
    drawn.dedup();
    assert!(drawn.len() > 3, "others each time: {drawn:?}");
    let (_, none, _) = verify(&root, &keys, &mut mesh, Sample::of(0, [0; 32]));
    assert_eq!((none.bytes, none.skipped_bytes), (0, all.bytes));
}

#[test]
fn a_part_of_the_tree_and_a_record_that_do_not_come_are_findings() {
    let (keys, mut mesh) = (owner(1), Mesh::default());
    let root = stored(&keys, &mut mesh);
    let record = root.reference.duplicate();
    mesh.chunks.remove(&root.reference.id);
    let mut reader = Reader::new(&mut mesh);
    let records = vec![(Kind::Tree, record)];
    let mut verify = Verify::new(Some(&root), records, Sample::all(), LIMITS, &keys.dedup);
    let mut found = Vec::new();
    while let Some(finding) = reader.next(&mut verify).unwrap() {
        assert!(!finding.why().is_damage());
        found.push(finding);
    }
    let [Finding::Record { kind: Kind::Tree, .. }, Finding::Part { gap, .. }] = found.as_slice()
    else {
        panic!("{found:?}")
    };
    assert_eq!(gap.entries, 102);
    let mut nothing = Mesh::default();
    let mut reader = Reader::new(&mut nothing);
    let mut verify = Verify::new(None, Vec::new(), Sample::all(), LIMITS, &keys.dedup);
    assert!(reader.next(&mut verify).unwrap().is_none());
}
