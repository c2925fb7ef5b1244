//! Names: meshes, topics, answer tags.

use super::{Record, counted, freeze, oracle, read};
use quloud::core::shard::Sharding;
use quloud::core::topic::{Topic, TopicKind};
use quloud::core::types::{AnswerTag, Locality, NodeId};
use quloud::crypto::mesh_id;

const FILE: &str = "topic.txt";

const INTRO: &str = "\
Quloud test vectors: names of meshes and topics (PROTOCOL.md, section \"Topics\").

topic-*:  the topics of a locality, at b shard bits.
answer-*: the tag of an asker's ephemeral key, and the topic its answers go to.
homes-*:  the home shards of a node, in the order in which they are drawn.";

fn topic_record(mesh: &str, locality: u16, bits: u32) -> Record {
    let name = if mesh == "quloud" { "default" } else { "other" };
    let mut record = Record::new(&format!("topic-{name}-{locality:04x}-b{bits}"))
        .text("mesh_name", mesh)
        .hex("mesh_id", mesh_id(mesh).as_bytes())
        .text("locality", locality)
        .text("b", bits);
    for kind in TopicKind::ALL {
        let topic = Topic::new(kind, Locality(locality), bits);
        record = record.text(kind.name(), topic.name(&mesh_id(mesh)));
    }
    record
}

fn tag(ephemeral: &[u8; 32]) -> AnswerTag {
    AnswerTag::of(ephemeral)
}

fn answer_record(from: u8, bits: u32) -> Record {
    let ephemeral = counted::<32>(from);
    let tag = tag(&ephemeral);
    Record::new(&format!("answer-{from:02x}-b{bits}"))
        .text("mesh_name", "quloud")
        .hex("ephemeral", ephemeral)
        .text("b", bits)
        .hex("tag", tag.as_bytes())
        .text("answer", Topic::answer(&tag, bits).name(&mesh_id("quloud")))
}

fn homes_record(from: u8, bits: u32, homes: u32) -> Record {
    let node = counted::<32>(from);
    let shards = Sharding::new(bits, homes).homes(&NodeId::from_bytes(node));
    let mut record = Record::new(&format!("homes-{from:02x}-b{bits}-k{homes}"))
        .hex("node", node)
        .text("b", bits)
        .text("k", homes);
    for shard in shards {
        record = record.text("home", format!("{shard:04x}"));
    }
    record
}

fn records() -> Vec<Record> {
    vec![
        topic_record("quloud", 0, 0),
        topic_record("quloud", 0xffff, 0),
        topic_record("quloud", 0xabcd, 6),
        topic_record("quloud", 0xabcd, 16),
        topic_record("Famille Müller", 0xabcd, 8),
        answer_record(0x00, 0),
        answer_record(0x20, 6),
        answer_record(0x40, 16),
        homes_record(0x00, 0, 1),
        homes_record(0x00, 6, 4),
        homes_record(0x20, 8, 2),
        homes_record(0x40, 4, 16),
        homes_record(0x60, 12, 16),
    ]
}

#[test]
fn names_are_frozen() {
    freeze(FILE, INTRO, &records());
}

#[test]
fn a_second_implementation_names_the_same_topics() {
    for record in read(FILE).into_iter().filter(|record| !record.name.starts_with("homes")) {
        let mesh = oracle::sha256(&[record.get("mesh_name").as_bytes()]);
        let shard = |locality: u32| (locality << record.number("b") >> 16) & 0xffff;
        let name = |locality, kind| {
            format!("/quloud/1/{}/{:04x}/{kind}", hex::encode(&mesh[..8]), shard(locality))
        };
        if record.name.starts_with("topic") {
            assert_eq!(mesh, record.array("mesh_id"));
            for kind in ["store", "retrieve", "audit", "answer"] {
                assert_eq!(name(record.number("locality"), kind), record.get(kind));
            }
        } else {
            let hash = oracle::sha256(&[b"quloud/v1/answer-tag", &record.bytes("ephemeral")]);
            assert_eq!(hash[..8], record.array::<8>("tag"));
            let locality = u32::from(hash[0]) << 8 | u32::from(hash[1]);
            assert_eq!(name(locality, "answer"), record.get("answer"));
        }
    }
}

#[test]
fn a_second_implementation_finds_the_same_home_shards() {
    let records = read(FILE).into_iter().filter(|record| record.name.starts_with("homes"));
    let mut seen = 0;
    for record in records {
        let (node, bits) = (record.bytes("node"), record.number("b"));
        let mut homes: Vec<String> = Vec::new();
        let mut block = 0_u32;
        while homes.len() < record.number("k") as usize {
            let hash = oracle::sha256(&[b"quloud/v1/home", &node, &block.to_le_bytes()]);
            for pair in hash.chunks_exact(2) {
                let number = u32::from(pair[0]) << 8 | u32::from(pair[1]);
                homes.push(format!("{:04x}", number >> (16 - bits)));
            }
            block += 1;
            let mut all = std::collections::BTreeSet::new();
            homes.retain(|home| all.insert(home.clone()));
        }
        homes.truncate(record.number("k") as usize);
        assert!(record.all("home").eq(homes.iter().map(String::as_str)));
        seen += 1;
    }
    assert_eq!(seen, 5);
}
