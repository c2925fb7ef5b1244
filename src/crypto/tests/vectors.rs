//! The frozen vectors of heads and account operations. They were made by a second implementation,
//! written from `proto/PROTOCOL.md` in another language; here they are made again, and read.

use crate::core::types::{Account, LeaseTerms, MeshId, NodeId, StoreEpoch};
use crate::crypto::account::{AccountOperation, AccountQuestion, AccountReply};
use crate::crypto::head::{HeadError, HeadKeys, HeadRecord};
use crate::crypto::keys::{HeadKey, PairKey};
use crate::crypto::{ownership, sha256, tests::owner_of_vectors};
use rand::{TryCryptoRng, TryRng};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::NonZeroU64;

const HEADS: &str = include_str!("../../../tests/vectors/head.txt");
const BAD_HEADS: &str = include_str!("../../../tests/vectors/head-bad.txt");
const ACCOUNTS: &str = include_str!("../../../tests/vectors/account.txt");

/// A `[name]` and `field = value` lines.
struct Record<'a> {
    name: &'a str,
    fields: BTreeMap<&'a str, &'a str>,
}

fn records(text: &str) -> Vec<Record<'_>> {
    let mut records = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            records.push(Record { name, fields: BTreeMap::new() });
            continue;
        }
        let (field, value) = line.split_once(" =").unwrap();
        let record = records.last_mut().unwrap();
        record.fields.insert(field, value.trim_start());
    }
    records
}

impl Record<'_> {
    fn bytes(&self, field: &str) -> Vec<u8> {
        hex::decode(self.fields[field]).unwrap()
    }

    fn array<const N: usize>(&self, field: &str) -> [u8; N] {
        self.bytes(field).try_into().unwrap()
    }

    fn number(&self, field: &str) -> u64 {
        self.fields[field].parse().unwrap()
    }
}

/// Gives these bytes, once.
struct Fixed(Vec<u8>);

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

fn keys(record: &Record<'_>) -> HeadKeys {
    let generation = u32::try_from(record.number("generation")).unwrap();
    let index = u16::try_from(record.number("index")).unwrap();
    let head = HeadKey::from_bytes(record.array("head"));
    assert_eq!(head.expose(), owner_of_vectors(generation).head.expose());
    HeadKeys::derive(&head, generation, index)
}

#[test]
fn heads_are_those_of_a_second_implementation() {
    let (mut derived, mut made) = (0, 0);
    for record in records(HEADS) {
        if record.name.starts_with("keys") {
            let keys = keys(&record);
            assert_eq!(keys.read_secret().scalar().to_bytes(), record.array("y"));
            assert_eq!(keys.sign_secret().scalar().to_bytes(), record.array("z"));
            assert_eq!(keys.read_secret().point(), record.array("Y"));
            assert_eq!(keys.sign_secret().point(), record.array("Z"));
            assert_eq!(keys.id().as_bytes(), &record.array::<32>("id"));
            assert_eq!(u64::from(keys.locality().0), record.number("locality"));
            derived += 1;
        } else if record.name.starts_with("record") {
            let (keys, payload) = (keys(&record), record.bytes("payload"));
            let number = NonZeroU64::new(record.number("number")).unwrap();
            let mut fresh = Fixed(record.bytes("fresh"));
            let head = keys.make(number, record.array("previous"), &payload, &mut fresh).unwrap();
            assert_eq!(head.encode(), record.bytes("record"), "{}", record.name);
            let read = HeadRecord::decode(record.bytes("record").into()).unwrap();
            assert_eq!(read.hash(), record.array("hash"));
            assert_eq!(keys.open(&read).unwrap()[..payload.len()], payload);
            made += 1;
        }
    }
    assert_eq!((derived, made), (5, 3));
}

#[test]
fn every_bad_head_is_refused_for_its_reason() {
    let all = records(BAD_HEADS);
    assert!(all.len() >= 30, "{}", all.len());
    let keys = HeadKeys::derive(&owner_of_vectors(0).head, 0, 1);
    for record in all {
        let read = HeadRecord::decode(record.bytes("record").into());
        let why = match read.and_then(|head| keys.open(&head).map(drop)) {
            Ok(()) => "none",
            Err(HeadError::Length(_)) => "length",
            Err(HeadError::Version(_)) => "version",
            Err(HeadError::Number) => "number",
            Err(HeadError::Point) => "point",
            Err(HeadError::Signature) => "signature",
            Err(HeadError::WrongHead) => "wrong-head",
            Err(HeadError::Seal) => "seal",
        };
        assert_eq!(why, record.fields["reason"], "{}", record.name);
    }
}

#[test]
fn what_a_stored_head_is_proved_for_is_that_of_a_second_implementation() {
    let all = records(HEADS);
    let record = all.iter().find(|record| record.name == "store").unwrap();
    let first = all.iter().find(|record| record.name == "record-first").unwrap();
    assert_eq!(sha256(&[&first.bytes("record")]), record.array("record_hash"));
    let terms = LeaseTerms::default().encode();
    assert_eq!(terms.as_slice(), record.bytes("terms"));
    let parts = [record.bytes("account"), terms.to_vec(), record.bytes("record_hash")];
    let body = ownership::body_hash(&parts.each_ref().map(Vec::as_slice));
    assert_eq!(body, record.array("body_hash"));
}

fn operation(record: &Record<'_>) -> AccountOperation {
    match record.number("operation") {
        1 => AccountOperation::ListMine,
        2 => AccountOperation::Query,
        other => panic!("operation {other}"),
    }
}

#[test]
fn account_macs_are_those_of_a_second_implementation() {
    let all = records(ACCOUNTS);
    assert_eq!(all.len(), 6);
    for record in all {
        let pair = PairKey::from_bytes(record.array("pair_key"));
        let payload = record.bytes("payload");
        let mac = if record.name.starts_with("question") {
            AccountQuestion {
                operation: operation(&record),
                mesh: MeshId::from_bytes(record.array("mesh")),
                asker: NodeId::from_bytes(record.array("asker")),
                holder: NodeId::from_bytes(record.array("holder")),
                account: Account::from_bytes(record.array("account")),
                nonce: record.array("nonce"),
                request: record.number("request"),
                after: record.array("after"),
                limit: u32::try_from(record.number("limit")).unwrap(),
                payload: &payload,
            }
            .mac(&pair)
        } else {
            AccountReply {
                operation: operation(&record),
                nonce: record.array("nonce"),
                request: record.number("request"),
                epoch: StoreEpoch::from_bytes(record.array("epoch")),
                more: record.number("more") == 1,
                payload: &payload,
            }
            .mac(&pair)
        };
        assert_eq!(mac, record.array("mac"), "{}", record.name);
    }
}
