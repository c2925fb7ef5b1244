//! Whole files: from a capability and the chunks it leads to, to the bytes.

use super::{Record, freeze, keys, oracle, read};
use bech32::primitives::decode::CheckedHrpstring;
use crypto_secretbox::aead::Aead;
use crypto_secretbox::{KeyInit, XSalsa20Poly1305};
use quloud::core::types::Locality;
use quloud::crypto::seal::SealedChunk;
use quloud::repo::put::{PutContext, PutError, put_pieces};
use quloud::repo::sealer::{ChunkSink, SinkClosed};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

const FILE: &str = "file.txt";

const INTRO: &str = "\
Quloud test vectors: whole files (PROTOCOL.md, sections \"Chunk\" and \"Capability\").

From the capability and the chunks alone, a reader gets the file. chunk = id, header, sealed bytes.
The pieces are shorter than a writer would cut them, and all frames are raw.";

static NEVER: AtomicBool = AtomicBool::new(false);

#[derive(Default)]
struct Collected(Vec<SealedChunk>);

impl ChunkSink for Collected {
    fn store(&mut self, chunk: SealedChunk, _: u64) -> Result<(), SinkClosed> {
        self.0.push(chunk);
        Ok(())
    }
}

fn record(name: &str, pieces: &[&[u8]]) -> Record {
    let keys = keys::owner();
    let context = PutContext { keys: &keys, locality: Locality(0x1234), cancel: &NEVER };
    let mut chunks = Collected::default();
    let pieces_read = pieces.iter().map(|piece| Ok::<_, PutError>(*piece));
    let summary = put_pieces(pieces_read, context, &mut chunks, |_| {}).unwrap();
    let record = Record::new(name)
        .text("capability", summary.capability.encode().as_str())
        .hex("file", pieces.concat());
    chunks.0.iter().fold(record, |record, chunk| {
        let (header, sealed) = (hex::encode(chunk.header.encode()), hex::encode(&chunk.sealed));
        record.text("chunk", format!("{} {header} {sealed}", chunk.id()))
    })
}

fn records() -> Vec<Record> {
    vec![
        record("empty", &[]),
        record("one-piece", &[b"hello, mesh"]),
        record("three-pieces", &[b"first ", b"second ", b"third"]),
    ]
}

#[test]
fn whole_files_are_frozen() {
    freeze(FILE, INTRO, &records());
}

/// The plaintext of a chunk, all checks of the specification on the way. Frames are raw here.
fn open(chunks: &BTreeMap<Vec<u8>, (Vec<u8>, Vec<u8>)>, id: &[u8], ck: &[u8], kind: u8) -> Vec<u8> {
    let (header, sealed) = &chunks[id];
    assert_eq!(oracle::sha256(&[b"quloud/v1/chunk", header]), id);
    assert_eq!(oracle::blake3(sealed), header[105..]);
    let y = oracle::scalar(ck, &[b"quloud/v1/read"]);
    assert_eq!(oracle::point(&y), header[5..37]);
    let secretbox = XSalsa20Poly1305::new(&oracle::expand::<32>(ck, &[b"quloud/v1/seal"]).into());
    let nonce: [u8; 24] = sealed[..24].try_into().unwrap();
    let frame = secretbox.decrypt(&nonce.into(), &sealed[24..]).unwrap();
    assert_eq!(frame[..4], [1, kind, 0, 0]);
    let stored = u32::from_le_bytes(frame[8..12].try_into().unwrap()) as usize;
    frame[12..12 + stored].to_vec()
}

#[test]
fn a_second_implementation_reads_the_same_files() {
    for record in read(FILE) {
        let line = |line: &str| {
            let parts: Vec<Vec<u8>> =
                line.split(' ').map(|part| hex::decode(part).unwrap()).collect();
            let [id, header, sealed] = parts.try_into().unwrap();
            (id, (header, sealed))
        };
        let chunks: BTreeMap<_, (Vec<u8>, Vec<u8>)> = record.all("chunk").map(line).collect();
        let capability =
            CheckedHrpstring::new::<bech32::Bech32m>(record.get("capability")).unwrap();
        let payload: Vec<u8> = capability.byte_iter().collect();
        assert_eq!((payload[0], payload.len()), (1, 67));
        let listing = open(&chunks, &payload[1..33], &payload[35..67], 2);
        let (entries, rest) = listing[16..].as_chunks::<74>();
        assert!(rest.is_empty());
        let pieces = entries.iter().map(|entry| open(&chunks, &entry[32..64], &entry[..32], 1));
        assert_eq!(pieces.collect::<Vec<_>>().concat(), record.bytes("file"), "{}", record.name);
    }
}
