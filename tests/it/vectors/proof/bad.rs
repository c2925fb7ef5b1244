//! Proofs that must fail: made for something else, with another secret, by another transcript, or
//! written in another form.

use super::super::header::BAD_POINTS;
use super::*;
use curve25519_dalek::Scalar;

const FILE: &str = "proof-bad.txt";

const INTRO: &str = "\
Quloud test vectors that must fail: ownership proofs (PROTOCOL.md, section \"Ownership proof\").

Each record is what the verifier sees; the proof must not verify, alone or in a batch.
reason binding:    a good proof, made for another context, chunk or point.
reason kind:       good in its context, which is of neither of the two kinds there are.
reason secret:     made with another secret than the point's.
reason transcript: made with the right secret by another transcript.
reason encoding:   a point or a number that is not in its one legal form, or the identity.
reason damage:     changed on the way.";

fn seen(name: &str, reason: &str, context: &Context) -> Record {
    with_context(Record::new(name).text("reason", reason), context)
}

/// A proof of `x` in `context`, by the oracle.
fn prove(x: Scalar, id: &ChunkId, context: &[u8]) -> Proof {
    let fresh = counted::<32>(0x81);
    oracle::Prover { x, id: id.as_bytes(), context, fresh: &fresh }.proof()
}

/// A retrieve in its usual context: what each vector differs from.
struct Base {
    subject: Subject,
    context: Context,
    id: ChunkId,
}

impl Base {
    fn new() -> Self {
        let subject = Subject::new(b"content");
        let id = subject.header.id();
        Self { subject, context: context(Operation::Retrieve), id }
    }

    fn proof(&self) -> Proof {
        prove(self.subject.scalars.y, &self.id, &self.context.encode())
    }

    fn record(&self, name: &str, reason: &str, proof: Proof) -> Record {
        seen(name, reason, &self.context)
            .hex("id", self.id.as_bytes())
            .hex("point", self.subject.header.read)
            .hex("proof", proof)
    }
}

fn binding() -> Vec<Record> {
    let base = Base::new();
    let (node, own) = (|from| NodeId::from_bytes(counted(from)), base.context);
    let (Verifier::Node(verifier), Some(asker)) = (own.verifier, own.asker) else {
        unreachable!("the base context is made for one node by another");
    };
    let mut one_bit = own.nonce;
    one_bit[31] ^= 0x80;
    let contexts = [
        ("other-mesh", Context { mesh: MeshId::from_bytes(counted(0x02)), ..own }),
        ("relayed-to-other-holder", Context { verifier: Verifier::Node(node(0x22)), ..own }),
        ("verifier-one-becomes-any", Context { verifier: Verifier::Anyone(counted(0x21)), ..own }),
        ("named-becomes-nameless", nameless(Operation::Retrieve)),
        ("other-asker", Context { asker: Some(node(0x42)), ..own }),
        ("asker-left-out", Context { asker: None, ..own }),
        ("asker-zero", Context { asker: Some(NodeId::from_bytes([0; 32])), ..own }),
        (
            "asker-and-verifier-swapped",
            Context { asker: Some(verifier), verifier: Verifier::Node(asker), ..own },
        ),
        ("other-nonce", Context { nonce: counted(0x62), ..own }),
        ("nonce-one-bit", Context { nonce: one_bit, ..own }),
        ("other-body", Context { body_hash: ownership::body_hash(&[b"other"]), ..own }),
        ("no-body", Context { body_hash: ownership::body_hash(&[]), ..own }),
        ("body-not-hashed", Context { body_hash: *b"body body body body body body bo", ..own }),
    ];
    let mut all: Vec<Record> = contexts
        .iter()
        .map(|(name, context)| {
            seen(name, "binding", context)
                .hex("id", base.id.as_bytes())
                .hex("point", base.subject.header.read)
                .hex("proof", base.proof())
        })
        .collect();
    for (name, operation) in OPERATIONS.into_iter().filter(|(name, _)| *name != "retrieve") {
        // The right point for the other operation, and the point of the proof: neither helps.
        let points = [
            ("", *operation.point(&base.subject.header)),
            ("-same-point", base.subject.header.read),
        ];
        for (suffix, point) in points {
            all.push(
                seen(
                    &format!("retrieve-as-{name}{suffix}"),
                    "binding",
                    &Context { operation, ..own },
                )
                .hex("id", base.id.as_bytes())
                .hex("point", point)
                .hex("proof", base.proof()),
            );
        }
    }
    let other = Subject::new(b"other content");
    for (name, id, point) in [
        ("other-chunk", other.header.id(), other.header.read),
        ("other-id", other.header.id(), base.subject.header.read),
        ("other-point", base.id, other.header.read),
    ] {
        let record = seen(name, "binding", &own).hex("id", id.as_bytes()).hex("point", point);
        all.push(record.hex("proof", base.proof()));
    }
    all
}

fn kinds() -> Vec<Record> {
    let base = Base::new();
    let mut contexts = vec![
        (
            "anyone-but-named",
            Context { asker: context(Operation::Store).asker, ..nameless(Operation::Retrieve) },
        ),
        ("one-node-but-nameless", Context { asker: None, ..context(Operation::Retrieve) }),
    ];
    for (name, operation) in [
        ("store-for-anyone", Operation::Store),
        ("unrelease-for-anyone", Operation::Unrelease),
        ("release-for-anyone", Operation::Release),
    ] {
        contexts.push((name, nameless(operation)));
    }
    contexts
        .into_iter()
        .map(|(name, context)| {
            let x = base.subject.scalar(context.operation);
            seen(name, "kind", &context)
                .hex("id", base.id.as_bytes())
                .hex("point", context.operation.point(&base.subject.header))
                .hex("proof", prove(x, &base.id, &context.encode()))
        })
        .collect()
}

fn secrets() -> Vec<Record> {
    let base = Base::new();
    let (own, other) = (&base.subject.scalars, Subject::new(b"other content").scalars);
    let cases = [
        ("admin-key-retrieves", Operation::Retrieve, own.z),
        ("other-chunks-key-retrieves", Operation::Retrieve, other.y),
        ("read-key-stores", Operation::Store, own.y),
        ("read-key-locates", Operation::Locate, own.y),
        ("read-key-releases", Operation::Release, own.y),
        ("admin-key-releases", Operation::Release, own.z),
        ("tweak-alone-releases", Operation::Release, own.t),
        ("delete-root-alone-releases", Operation::Release, own.e),
        ("other-chunks-delete-releases", Operation::Release, other.d),
        ("delete-key-unreleases", Operation::Unrelease, own.d),
        ("zero-retrieves", Operation::Retrieve, Scalar::ZERO),
        ("minus-y-retrieves", Operation::Retrieve, -own.y),
    ];
    cases
        .into_iter()
        .map(|(name, operation, x)| {
            // The transcript names the right point: only the secret is another.
            let (ctx, fresh) = (context(operation).encode(), counted::<32>(0x81));
            let prover = oracle::Prover { x, id: base.id.as_bytes(), context: &ctx, fresh: &fresh };
            let point = operation.point(&base.subject.header);
            let (id, r) = (base.id.as_bytes().as_slice(), prover.r());
            let c = oracle::h512(b"quloud/v1/challenge", &[id, point, &oracle::point(&r), &ctx]);
            seen(name, "secret", &context(operation))
                .hex("id", id)
                .hex("point", point)
                .hex("proof", oracle::proof(&r, &(r + c * x)))
        })
        .collect()
}

fn transcripts() -> Vec<Record> {
    let base = Base::new();
    let (x, id, ctx) =
        (base.subject.scalars.y, base.id.as_bytes().as_slice(), base.context.encode());
    let fresh = counted::<32>(0x81);
    let prover = oracle::Prover { x, id, context: &ctx, fresh: &fresh };
    let (r, point) = (prover.r(), oracle::point(&x));
    let commitment = oracle::point(&r);
    let domain = b"quloud/v1/challenge".as_slice();
    let full: [&[u8]; 4] = [id, &point, &commitment, &ctx];
    let without_length =
        Scalar::hash_from_bytes::<sha2::Sha512>(&[domain, &full.concat()].concat());
    let hashed = [&[19], domain, &full.concat()].concat();
    let short = Scalar::from_bytes_mod_order(oracle::sha256(&[&hashed]));
    let mut reversed = oracle::h512(domain, &full).to_bytes();
    reversed.reverse();
    let version = |number| [&[number], &ctx[1..]].concat();
    let mut renumbered = ctx.to_vec();
    renumbered[1] = 6;
    let no_tag = [&ctx[..34], &ctx[35..]].concat();
    let challenges = [
        ("without-point", oracle::h512(domain, &[id, &commitment, &ctx])),
        ("without-id", oracle::h512(domain, &[&point, &commitment, &ctx])),
        ("without-commitment", oracle::h512(domain, &[id, &point, &ctx])),
        ("without-context", oracle::h512(domain, &[id, &point, &commitment])),
        ("point-before-id", oracle::h512(domain, &[&point, id, &commitment, &ctx])),
        ("context-first", oracle::h512(domain, &[&ctx, id, &point, &commitment])),
        ("other-domain", oracle::h512(b"quloud/v2/challenge", &full)),
        ("nonce-domain", oracle::h512(b"quloud/v1/nonce", &full)),
        ("no-domain", oracle::h512(b"", &full)),
        ("domain-without-length", without_length),
        ("sha-256", short),
        ("big-endian-challenge", Scalar::from_bytes_mod_order(reversed)),
        ("negative-challenge", -oracle::h512(domain, &full)),
        ("challenge-zero", Scalar::ZERO),
        ("challenge-one", Scalar::ONE),
        ("context-version-0", oracle::h512(domain, &[id, &point, &commitment, &version(0)])),
        ("context-version-2", oracle::h512(domain, &[id, &point, &commitment, &version(2)])),
        ("operation-6", oracle::h512(domain, &[id, &point, &commitment, &renumbered])),
        ("context-without-tag", oracle::h512(domain, &[id, &point, &commitment, &no_tag])),
        ("context-without-version", oracle::h512(domain, &[id, &point, &commitment, &ctx[1..]])),
    ];
    challenges
        .into_iter()
        .map(|(name, c)| base.record(name, "transcript", oracle::proof(&r, &(r + c * x))))
        .collect()
}

fn encodings() -> Vec<Record> {
    let base = Base::new();
    let (good, y) = (base.proof(), base.subject.scalars.y);
    let (r, s) = good.split_at(32);
    let join = |r: &[u8], s: &[u8]| -> Proof { [r, s].concat().try_into().unwrap() };
    let ctx = base.context.encode();
    let challenge = |point: &[u8], commitment: &[u8]| {
        oracle::h512(b"quloud/v1/challenge", &[base.id.as_bytes(), point, commitment, &ctx])
    };
    // With r = 0, and with X = 0, the equation holds: only the encodings' rules stand in the way.
    let trivial = challenge(&oracle::point(&y), &[0; 32]) * y;
    let mut all = vec![
        base.record("s-plus-order", "encoding", join(r, &oracle::shift(s, 1))),
        base.record("s-plus-8-orders", "encoding", join(r, &oracle::shift(s, 8))),
        base.record("s-order", "encoding", join(r, &oracle::ORDER)),
        base.record("s-all-ones", "encoding", join(r, &[0xff; 32])),
        base.record("R-identity", "encoding", join(&[0; 32], trivial.as_bytes())),
        base.record("all-zero", "encoding", [0; 64]),
        base.record("all-ones", "encoding", [0xff; 64]),
    ];
    for (kind, encodings) in BAD_POINTS {
        let bytes = hex::decode(encodings[0]).unwrap();
        all.push(base.record(&format!("R-{kind}"), "encoding", join(&bytes, s)));
    }
    let mut high = good;
    high[31] |= 0x80;
    all.push(base.record("R-high-bit", "encoding", high));
    let anything = Scalar::from(7u8);
    for (name, point) in [("point-identity", [0; 32]), ("point-not-canonical", [0xff; 32])] {
        all.push(
            seen(name, "encoding", &base.context)
                .hex("id", base.id.as_bytes())
                .hex("point", point)
                .hex("proof", oracle::proof(&anything, &anything)),
        );
    }
    all
}

fn damage() -> Vec<Record> {
    let base = Base::new();
    let good = base.proof();
    let other = prove(base.subject.scalars.y, &base.id, &context(Operation::Locate).encode());
    let flipped = |at: usize, mask: u8| {
        let mut changed = good;
        changed[at] ^= mask;
        changed
    };
    let join = |r: &[u8], s: &[u8]| -> Proof { [r, s].concat().try_into().unwrap() };
    let s = Scalar::from_canonical_bytes(good[32..].try_into().unwrap()).unwrap();
    let mut backwards = good;
    backwards.reverse();
    vec![
        base.record("first-bit-of-R", "damage", flipped(0, 1)),
        base.record("a-middle-bit-of-R", "damage", flipped(16, 0x10)),
        base.record("first-bit-of-s", "damage", flipped(32, 1)),
        base.record("last-byte-of-s", "damage", flipped(63, 1)),
        base.record("halves-swapped", "damage", join(&good[32..], &good[..32])),
        base.record("backwards", "damage", backwards),
        base.record("R-of-another-proof", "damage", join(&other[..32], &good[32..])),
        base.record("s-of-another-proof", "damage", join(&good[..32], &other[32..])),
        base.record("s-zero", "damage", join(&good[..32], &[0; 32])),
        base.record("s-negative", "damage", join(&good[..32], (-s).as_bytes())),
        base.record("s-plus-one", "damage", join(&good[..32], (s + Scalar::ONE).as_bytes())),
        base.record("s-doubled", "damage", join(&good[..32], (s + s).as_bytes())),
    ]
}

fn records() -> Vec<Record> {
    [binding(), kinds(), secrets(), transcripts(), encodings(), damage()].concat()
}

#[test]
fn bad_proofs_are_frozen() {
    freeze(FILE, INTRO, &records());
}

#[test]
fn every_bad_proof_fails() {
    for record in read(FILE) {
        assert!(!verifies(&record), "{}", record.name);
    }
}

#[test]
fn what_the_bad_proofs_differ_from_is_good() {
    let base = Base::new();
    assert!(verifies(&base.record("base", "none", base.proof())));
}
