//! Each field with each kind of wrong value, and the frozen vectors of other implementations.

use super::*;
use crate::proto;
use prost::Message as _;

pub(super) type Change<M> = (&'static str, fn(&mut M));

pub(super) fn short(bytes: &mut Bytes) {
    *bytes = bytes.slice(1..);
}

pub(super) fn long(bytes: &mut Bytes) {
    *bytes = [bytes.as_ref(), &[0]].concat().into();
}

/// A fixed-length field that is a byte too short, a byte too long, or missing.
macro_rules! fixed {
    ($message:ident, $($field:ident),+) => {
        {
            let changes: Vec<Change<proto::$message>> = vec![$(
                (concat!(stringify!($field), " short"), |m| short(&mut m.$field)),
                (concat!(stringify!($field), " long"), |m| long(&mut m.$field)),
                (concat!(stringify!($field), " missing"), |m| m.$field.clear()),
            )+];
            changes
        }
    };
}

pub(super) use fixed;

fn request() -> proto::StoreRequest {
    let offer = |id: ChunkId| proto::Offer { id: bytes_of(id.as_bytes()), sealed_bytes: 41 };
    proto::StoreRequest {
        ephemeral: bytes_of(&[1; 32]),
        attempt: 3,
        probability: 65_535,
        quorum: 3,
        terms: Some(proto::LeaseTerms::default()),
        offers: ids_of(2).map(offer).collect(),
        stamp: Bytes::new(),
    }
}

const REQUEST: &[Change<proto::StoreRequest>] = &[
    ("probability above 1", |m| m.probability = 65_536),
    ("quorum 0", |m| m.quorum = 0),
    ("quorum 33", |m| m.quorum = 33),
    ("quorum 257", |m| m.quorum = 257),
    ("no terms", |m| m.terms = None),
    ("no offers", |m| m.offers.clear()),
    ("65 offers", |m| {
        let offer = |id: ChunkId| proto::Offer { id: bytes_of(id.as_bytes()), sealed_bytes: 41 };
        m.offers = ids_of(65).map(offer).collect();
    }),
    ("an offer twice", |m| m.offers.push(m.offers[0].clone())),
    ("offer id short", |m| short(&mut m.offers[0].id)),
    ("offer of no bytes", |m| m.offers[0].sealed_bytes = 40),
    ("offer too large", |m| m.offers[0].sealed_bytes = CHUNK_SEALED_BYTES_MAX + 1),
    ("stamp long", |m| m.stamp = bytes_of(&[0; 65])),
];

fn search() -> proto::SearchRequest {
    let wanted =
        |id: ChunkId| proto::Wanted { id: bytes_of(id.as_bytes()), proof: bytes_of(&[5; 64]) };
    proto::SearchRequest {
        ephemeral: bytes_of(&[1; 32]),
        attempt: 0,
        nonce: bytes_of(&[2; 32]),
        wanted: ids_of(2).map(wanted).collect(),
    }
}

const SEARCH: &[Change<proto::SearchRequest>] = &[
    ("nothing wanted", |m| m.wanted.clear()),
    ("wanted twice", |m| m.wanted.push(m.wanted[0].clone())),
    ("33 wanted", |m| {
        let proof = bytes_of(&[5; 64]);
        let wanted =
            |id: ChunkId| proto::Wanted { id: bytes_of(id.as_bytes()), proof: proof.clone() };
        m.wanted = ids_of(33).map(wanted).collect();
    }),
    ("wanted id short", |m| short(&mut m.wanted[0].id)),
    ("proof short", |m| short(&mut m.wanted[0].proof)),
    ("proof long", |m| long(&mut m.wanted[0].proof)),
];

fn answer() -> proto::Answer {
    proto::Answer { tag: bytes_of(&[1; 8]), sealed: bytes_of(&[2; 49]) }
}

const ANSWER: &[Change<proto::Answer>] =
    &[("box of nothing", |m| m.sealed = bytes_of(&[2; 48])), ("no box", |m| m.sealed.clear())];

fn contact() -> proto::Contact {
    proto::Contact { record: bytes_of(&[9; 100]), hello: Some(hello_of()) }
}

fn hello_of() -> proto::Hello {
    super::super::field::encode_hello(&largest_hello())
}

const HELLO: &[Change<proto::Hello>] = &[
    ("site long", |m| m.site.push('x')),
    ("operator long", |m| m.operator = "é".repeat(17)),
    ("line feed in site", |m| m.site = "a\nb".into()),
    ("escape in operator", |m| m.operator = "\u{1b}[2J".into()),
    ("C1 control in site", |m| m.site = "\u{9b}2J".into()),
];

fn claim_of(contact: Option<proto::Contact>) -> proto::StoreClaim {
    proto::StoreClaim { contact, ephemeral: bytes_of(&[1; 32]), wants: 3, holds: 1 }
}

fn chunk() -> (proto::StoreChunk, Bytes) {
    let sealed = bytes_of(&[8; 64]);
    let chunk = proto::StoreChunk {
        batch: bytes_of(&[1; 16]),
        account: bytes_of(&[2; 32]),
        header: bytes_of(&header(&sealed).encode()),
        terms: Some(proto::LeaseTerms::default()),
        nonce: bytes_of(&[3; 32]),
        proof: bytes_of(&[4; 64]),
        seed: bytes_of(&[5; 32]),
        tags: bytes_of(&[6; 16]),
    };
    (chunk, sealed)
}

const CHUNK: &[Change<proto::StoreChunk>] = &[
    ("no terms", |m| m.terms = None),
    ("no tags", |m| m.tags = Bytes::new()),
    ("tags of two blocks", |m| m.tags = bytes_of(&[6; 32])),
    ("header of version 2", |m| {
        m.header = [&[2], m.header.slice(1..).as_ref()].concat().into();
    }),
    ("header of other length", |m| m.header = bytes_of(&header(&[8; 65]).encode())),
    ("header with a bad point", |m| {
        let mut header = m.header.to_vec();
        header[5..37].fill(255);
        m.header = header.into();
    }),
];

fn ack() -> proto::StoreAck {
    let acked = |id: ChunkId| proto::AckedChunk {
        id: bytes_of(id.as_bytes()),
        lease: bytes_of(&[6; 16]),
        receipt: bytes_of(&[7; 32]),
    };
    proto::StoreAck {
        batch: bytes_of(&[1; 16]),
        account: bytes_of(&[2; 32]),
        epoch: bytes_of(&[3; 16]),
        terms: Some(proto::LeaseTerms::default()),
        chunks: ids_of(2).map(acked).collect(),
        signature: bytes_of(&[4; 64]),
    }
}

const ACK: &[Change<proto::StoreAck>] = &[
    ("no terms", |m| m.terms = None),
    ("no chunks", |m| m.chunks.clear()),
    ("a chunk twice", |m| m.chunks.push(m.chunks[0].clone())),
    ("65 chunks", |m| {
        let first = m.chunks[0].clone();
        m.chunks = ids_of(65)
            .map(|id| proto::AckedChunk { id: bytes_of(id.as_bytes()), ..first.clone() })
            .collect();
    }),
    ("acked id short", |m| short(&mut m.chunks[0].id)),
    ("lease long", |m| long(&mut m.chunks[0].lease)),
    ("receipt short", |m| short(&mut m.chunks[0].receipt)),
];

/// Checks that `good` decodes, and that it does not after any one of `changes`.
pub(super) fn each_change_is_rejected<M: Clone>(
    good: &M,
    changes: &[&[Change<M>]],
    decode: impl Fn(M) -> Result<(), Reject>,
) {
    assert_eq!(decode(good.clone()), Ok(()));
    for (name, change) in changes.iter().copied().flatten() {
        let mut bad = good.clone();
        change(&mut bad);
        assert_eq!(decode(bad), Err(Reject::Malformed), "{name}");
    }
}

fn topic(body: proto::topic_message::Body) -> Result<(), Reject> {
    let message = proto::TopicMessage { version: 1, body: Some(body) };
    decode_topic(&message.encode_to_vec()).map(drop)
}

fn answer_of(body: proto::answer_body::Body) -> Result<(), Reject> {
    signed(proto::AnswerBody { version: 1, body: Some(body), signature: bytes_of(&[11; 64]) })
}

fn signed(answer: proto::AnswerBody) -> Result<(), Reject> {
    decode_answer(&answer.encode_to_vec()).map(drop)
}

pub(super) fn stream(body: proto::stream_message::Body, payload: &[u8]) -> Result<(), Reject> {
    let head = proto::StreamMessage { version: 1, body: Some(body) };
    let (head, payload) = (head.encode_to_vec().into(), bytes_of(payload));
    decode_stream(Frame { head, payload }).map(drop)
}

#[test]
fn each_wrong_field_of_a_topic_message_is_rejected() {
    use proto::topic_message::Body;
    let lengths = fixed!(StoreRequest, ephemeral);
    each_change_is_rejected(&request(), &[REQUEST, &lengths], |m| topic(Body::StoreRequest(m)));
    let lengths = fixed!(SearchRequest, ephemeral, nonce);
    for body in [Body::RetrieveRequest as fn(_) -> _, Body::LocateRequest] {
        each_change_is_rejected(&search(), &[SEARCH, &lengths], |m| topic(body(m)));
    }
    let lengths = fixed!(Answer, tag);
    each_change_is_rejected(&answer(), &[ANSWER, &lengths], |m| topic(Body::Answer(m)));
}

#[test]
fn each_wrong_field_of_an_answer_is_rejected() {
    use proto::answer_body::Body;
    let claims: &[Change<proto::StoreClaim>] = &[
        ("no contact", |m| m.contact = None),
        ("holds what it does not want", |m| m.holds = 4),
        ("no hello", |m| m.contact = Some(proto::Contact { hello: None, ..contact() })),
        ("no record", |m| {
            m.contact = Some(proto::Contact { record: Bytes::new(), ..contact() });
        }),
        ("long record", |m| {
            let record = bytes_of(&[1; RECORD_BYTES_MAX + 1]);
            m.contact = Some(proto::Contact { record, ..contact() });
        }),
    ];
    let lengths = fixed!(StoreClaim, ephemeral);
    let good = claim_of(Some(contact()));
    each_change_is_rejected(&good, &[claims, &lengths], |m| answer_of(Body::Claim(m)));
    let offers: &[Change<proto::RetrieveOffer>] = &[("no contact", |m| m.contact = None)];
    let good = proto::RetrieveOffer { contact: Some(contact()), holds: 1 };
    each_change_is_rejected(&good, &[offers], |m| answer_of(Body::Offer(m)));
    let signature = bytes_of(&[11; 64]);
    let good = proto::AnswerBody { version: 1, body: Some(Body::Offer(good)), signature };
    each_change_is_rejected(&good, &[&fixed!(AnswerBody, signature)], signed);
}

#[test]
fn each_wrong_field_of_a_stream_message_is_rejected() {
    use proto::stream_message::Body;
    let lengths = fixed!(Hello, node, mesh, agreement, agreement_signature);
    each_change_is_rejected(&hello_of(), &[HELLO, &lengths], |m| stream(Body::Hello(m), &[]));
    let claims: &[Change<proto::StoreClaim>] = &[("contact", |m| m.contact = Some(contact()))];
    each_change_is_rejected(&claim_of(None), &[claims], |m| stream(Body::StoreClaim(m), &[]));
    each_change_is_rejected(&request(), &[REQUEST], |m| stream(Body::StoreRequest(m), &[]));
    let (good, sealed) = chunk();
    let lengths = fixed!(StoreChunk, batch, account, header, nonce, proof, seed, tags);
    let decode = |m| stream(Body::StoreChunk(m), &sealed);
    each_change_is_rejected(&good, &[CHUNK, &lengths], decode);
    let lengths = fixed!(StoreAck, batch, account, epoch, signature);
    each_change_is_rejected(&ack(), &[ACK, &lengths], |m| stream(Body::StoreAck(m), &[]));
    let good = proto::Retrieve {
        request: u64::MAX,
        id: bytes_of(&[1; 32]),
        nonce: bytes_of(&[2; 32]),
        proof: bytes_of(&[3; 64]),
    };
    let lengths = fixed!(Retrieve, id, nonce, proof);
    each_change_is_rejected(&good, &[&lengths], |m| stream(Body::Retrieve(m), &[]));
    let good = proto::ChunkData { request: 1, header: bytes_of(&header(&sealed).encode()) };
    let lengths = fixed!(ChunkData, header);
    each_change_is_rejected(&good, &[&lengths], |m| stream(Body::ChunkData(m), &sealed));
}

#[test]
fn unknown_refusals_are_rejected() {
    use proto::stream_message::Body;
    for reason in [0, 9, 256, u32::MAX] {
        let (batch, id) = (bytes_of(&[1; 16]), bytes_of(&[2; 32]));
        let reject = Body::StoreReject(proto::StoreReject { batch, id, reason });
        assert_eq!(stream(reject, &[]), Err(Reject::Malformed), "store {reason}");
    }
    for reason in [0, 4, 256, u32::MAX] {
        let reject = Body::RetrieveReject(proto::RetrieveReject { request: 1, reason });
        assert_eq!(stream(reject, &[]), Err(Reject::Malformed), "retrieve {reason}");
    }
}

#[test]
fn payload_stands_only_where_it_belongs_and_as_long_as_the_header_says() {
    use proto::stream_message::Body;
    assert_eq!(stream(Body::Hello(hello_of()), &[0]), Err(Reject::Malformed));
    assert_eq!(stream(Body::StoreAck(ack()), &[0]), Err(Reject::Malformed));
    let (chunk, sealed) = chunk();
    let data = proto::ChunkData { request: 1, header: chunk.header.clone() };
    for wrong in [&sealed[1..], &[0; 65], &[]] {
        assert_eq!(stream(Body::StoreChunk(chunk.clone()), wrong), Err(Reject::Malformed));
        assert_eq!(stream(Body::ChunkData(data.clone()), wrong), Err(Reject::Malformed));
    }
}

#[test]
fn another_version_is_told_from_noise() {
    for version in [0, 2, u32::MAX] {
        let body = Some(proto::topic_message::Body::StoreRequest(request()));
        let message = proto::TopicMessage { version, body }.encode_to_vec();
        assert_eq!(decode_topic(&message), Err(Reject::WrongVersion));
        let head = proto::StreamMessage { version, body: None }.encode_to_vec().into();
        let frame = Frame { head, payload: Bytes::new() };
        assert_eq!(decode_stream(frame), Err(Reject::WrongVersion));
        let body = proto::AnswerBody { version, ..Default::default() }.encode_to_vec();
        assert_eq!(decode_answer(&body), Err(Reject::WrongVersion));
        let hello = proto::Hello { version, ..hello_of() };
        let hello = proto::stream_message::Body::Hello(hello);
        assert_eq!(stream(hello, &[]), Err(Reject::WrongVersion));
    }
    // Field 2 of version 2 is a number; here it would be a message.
    assert_eq!(decode_topic(&[0x08, 2, 0x10, 7]), Err(Reject::WrongVersion));
    assert_eq!(decode_topic(&[0x08, 1, 0x10, 7]), Err(Reject::Malformed));
    assert_eq!(decode_topic(&[0x08, 2, 0x10]), Err(Reject::Malformed));
}

#[test]
fn body_of_an_unknown_kind_is_malformed() {
    let unknown = [0x08, 1, 0xfa, 1, 0];
    assert_eq!(decode_topic(&unknown), Err(Reject::Malformed));
    assert_eq!(decode_answer(&unknown), Err(Reject::Malformed));
    let frame = Frame { head: bytes_of(&unknown), payload: Bytes::new() };
    assert_eq!(decode_stream(frame), Err(Reject::Malformed));
}

#[test]
fn oversize_is_seen_before_anything_is_parsed() {
    assert_eq!(decode_topic(&[0xff; TOPIC_BYTES_MAX + 1]), Err(Reject::Oversize));
    assert_eq!(decode_answer(&[0xff; ANSWER_BYTES_MAX + 1]), Err(Reject::Oversize));
    let frame = |head: usize, payload: usize| Frame {
        head: vec![0xff; head].into(),
        payload: vec![0; payload].into(),
    };
    assert_eq!(decode_stream(frame(HEAD_BYTES_MAX + 1, 0)), Err(Reject::Oversize));
    assert_eq!(decode_stream(frame(1, PAYLOAD_BYTES_MAX + 1)), Err(Reject::Oversize));
    let sealed = bytes_of(&[0; ANSWER_BYTES_MAX]);
    let answer = proto::Answer { sealed, ..answer() };
    assert_eq!(topic(proto::topic_message::Body::Answer(answer)), Err(Reject::Oversize));
}

/// Records of a `[name]` line and `field = value` lines; see the file's own head.
const VECTORS: &str = include_str!("../../../../tests/vectors/messages.txt");

/// What a record's bytes come to, and the same message's bytes again where it is good.
fn outcome(kind: &str, head: &Bytes, payload: Bytes) -> Result<Bytes, Reject> {
    match kind {
        "topic" => decode_topic(head).map(|message| encode_topic(&message)),
        "answer" => decode_answer(head).map(|body| encode_answer(&body)),
        "stream" => {
            let frame = Frame { head: head.clone(), payload: payload.clone() };
            let again = encode_stream(&decode_stream(frame)?);
            assert_eq!(again.payload, payload);
            Ok(again.head)
        }
        other => panic!("unknown kind {other}"),
    }
}

#[test]
fn frozen_vectors_come_to_what_is_written() {
    let records: Vec<&str> = VECTORS.split("\n[").skip(1).collect();
    assert!(records.len() > 100, "the vectors are there");
    for record in records {
        let field = |name: &str| {
            let value = |line: &str| line.strip_prefix(name)?.strip_prefix(" = ").map(String::from);
            record.lines().find_map(value)
        };
        let hex_field = |name| Bytes::from(hex::decode(field(name).unwrap_or_default()).unwrap());
        let (head, payload) = (hex_field("head"), hex_field("payload"));
        let (outcome, again) = match outcome(&field("kind").unwrap(), &head, payload) {
            Ok(again) => ("ok", again),
            Err(reason) => (reason.name(), head.clone()),
        };
        assert_eq!(outcome, field("outcome").unwrap(), "{record}");
        assert_eq!(again, head, "{record}");
    }
}
