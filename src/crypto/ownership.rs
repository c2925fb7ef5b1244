//! The zero-knowledge proof of ownership: a Schnorr signature of knowledge over Ristretto255.
//!
//! It shows that the asker knows the discrete logarithm x of a point that stands in the chunk's
//! header (y to fetch, z to administer, d to release) and reveals nothing of it. The challenge is
//! the strong Fiat-Shamir one: it covers the point and the whole context, so a proof is good for
//! one operation, one chunk, one mesh, one verifier, one asker, one nonce and one request body.
//!
//! `c = H512("quloud/v1/challenge", id, point, R, ctx)`, `s = r + c*x`, proof = `R || s`, and
//! `H512(domain, parts..) = SHA-512(len(domain) u8 || domain || parts..)`. The nonce scalar r is
//! hedged: derived from the secret, fresh randomness and the context together. The public point is
//! always computed from the secret that signs: a signer that takes it from its caller can be made
//! to give the secret away (the double-key oracle of RUSTSEC-2022-0093).

use super::header::{Header, decode_point};
use super::keys::{ChunkSecret, random};
use super::sha256;
use crate::core::types::{ChunkId, MeshId, NodeId};
use crate::planted::{self, Bug};
use curve25519_dalek::constants::RISTRETTO_BASEPOINT_POINT;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};
use curve25519_dalek::{RistrettoPoint, Scalar};
use rand::CryptoRng;
use sha2::{Digest, Sha512};
use zeroize::{Zeroize, Zeroizing};

/// Length of a proof: R 32, s 32.
pub const PROOF_BYTES: usize = 64;

/// What a proof allows. The number is part of the transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// Store this chunk; under Z.
    Store = 1,
    /// Say whether you hold this chunk; under Z.
    Locate = 2,
    /// Hand this chunk out; under Y.
    Retrieve = 3,
    /// Take a release back; under Z.
    Unrelease = 4,
    /// Let this chunk go; under D.
    Release = 5,
}

impl Operation {
    /// The point of `header` under which this operation is proved: Y, Z or D.
    pub fn point(self, header: &Header) -> &[u8; 32] {
        match self {
            Self::Retrieve => &header.read,
            Self::Store | Self::Locate | Self::Unrelease => &header.admin,
            Self::Release => &header.delete,
        }
    }
}

/// Who may check a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verifier {
    /// This node only, on a stream whose peer is the asker.
    Node(NodeId),
    /// Anybody on the topic; the answer is sealed to this X25519 key and nothing else is done.
    Anyone([u8; 32]),
}

/// Everything that a proof is bound to, besides the chunk and the point.
///
/// There are two kinds, and nothing else verifies: for one node, made by a named asker; and for
/// anyone, nameless, and only to find a chunk (Retrieve, Locate).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// What the proof allows.
    pub operation: Operation,
    /// The mesh it is made for.
    pub mesh: MeshId,
    /// Who may check it.
    pub verifier: Verifier,
    /// Who makes it: the stream's authenticated peer; `None` on a topic, where askers are nameless.
    pub asker: Option<NodeId>,
    /// Fresh in each proof.
    pub nonce: [u8; 32],
    /// SHA-256 of the request's body, whose layout belongs to the operation.
    pub body_hash: [u8; 32],
}

/// Length of an encoded context.
pub const CONTEXT_BYTES: usize = 1 + 1 + 32 + 33 + 32 + 32 + 32;

impl Context {
    fn is_legal(&self) -> bool {
        match (self.verifier, self.asker) {
            (Verifier::Node(_), Some(_)) => true,
            (Verifier::Anyone(_), None) => {
                matches!(self.operation, Operation::Retrieve | Operation::Locate)
            }
            (Verifier::Node(_), None) | (Verifier::Anyone(_), Some(_)) => false,
        }
    }

    /// `version u8 = 1 | operation u8 | mesh 32 | verifier tag u8 (0 node, 1 anyone) | verifier 32
    /// | asker 32 (zero where nameless) | nonce 32 | SHA-256(body) 32`: 163 bytes.
    pub fn encode(&self) -> [u8; CONTEXT_BYTES] {
        let (tag, verifier) = match &self.verifier {
            Verifier::Node(node) => (0, node.as_bytes()),
            Verifier::Anyone(key) => (1, key),
        };
        let asker = self.asker.map_or([0; 32], |node| *node.as_bytes());
        let (verifier, asker) = match planted::is_on(Bug::UnboundProof) {
            true => (&[0; 32], [0; 32]),
            false => (verifier, asker),
        };
        let parts: [&[u8]; 7] = [
            &[1, self.operation as u8],
            self.mesh.as_bytes(),
            &[tag],
            verifier,
            &asker,
            &self.nonce,
            &self.body_hash,
        ];
        let mut out = [0; CONTEXT_BYTES];
        for (byte, value) in out.iter_mut().zip(parts.into_iter().flatten()) {
            *byte = *value;
        }
        out
    }
}

/// A proof as it travels.
pub type Proof = [u8; PROOF_BYTES];

/// Proves knowledge of `secret` for the chunk `id` in `context`.
pub fn prove(
    secret: &ChunkSecret,
    id: &ChunkId,
    context: &Context,
    rng: &mut impl CryptoRng,
) -> Proof {
    let ctx = context.encode();
    let fresh = Zeroizing::new(random::<32>(rng));
    let x = Zeroizing::new(secret.scalar().to_bytes());
    let parts: [&[u8]; 4] = [x.as_slice(), fresh.as_slice(), id.as_bytes(), &ctx];
    let mut r = hash_to_scalar(b"quloud/v1/nonce", &parts);
    let commitment = RistrettoPoint::mul_base(&r).compress().to_bytes();
    let c = challenge(id, &secret.point(), &commitment, &ctx);
    let mut blinded = c * secret.scalar();
    let s = r + blinded;
    r.zeroize();
    blinded.zeroize();
    let mut proof = [0; PROOF_BYTES];
    let (head, tail) = proof.split_at_mut(32);
    head.copy_from_slice(&commitment);
    tail.copy_from_slice(s.as_bytes());
    proof
}

/// Whether `proof` shows knowledge of the logarithm of `point` for `id` in `context`.
///
/// Refuses encodings that are not canonical, and the identity, for the point and for R; and a
/// context of neither kind.
pub fn verify(point: &[u8; 32], id: &ChunkId, context: &Context, proof: &Proof) -> bool {
    let Some(claim) = decode(&Statement { point, id, context, proof }) else {
        return false;
    };
    let sum = RistrettoPoint::vartime_double_scalar_mul_basepoint(&-claim.c, &claim.x, &claim.s);
    sum == claim.r
}

/// Whether `proof` allows `context.operation` on the chunk with this header: under the point that
/// the operation takes, for the header's own id.
pub fn verify_header(header: &Header, context: &Context, proof: &Proof) -> bool {
    verify(context.operation.point(header), &header.id(), context, proof)
}

/// One of several proofs that are checked together.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    /// The point whose logarithm is known, from the chunk's header.
    pub point: &'a [u8; 32],
    /// The chunk.
    pub id: &'a ChunkId,
    /// The context as the verifier sees it.
    pub context: &'a Context,
    /// The proof.
    pub proof: &'a Proof,
}

/// Whether every one of `statements` verifies; true for none at all.
///
/// One multiscalar multiplication: with random 128-bit weights w, the sum of
/// `w * (s*G - c*X - R)` is the identity; a batch with a wrong proof in it passes with a
/// probability of 2^-128. Which one is wrong, [`verify`] tells.
pub fn verify_batch(statements: &[Statement<'_>], rng: &mut impl CryptoRng) -> bool {
    let mut base = Scalar::ZERO;
    let mut scalars = Vec::with_capacity(2 * statements.len() + 1);
    let mut points = Vec::with_capacity(2 * statements.len() + 1);
    for statement in statements {
        let Some(claim) = decode(statement) else {
            return false;
        };
        let weight = Scalar::from(u128::from_le_bytes(random(rng)));
        base += weight * claim.s;
        scalars.extend([-weight, -(weight * claim.c)]);
        points.extend([claim.r, claim.x]);
    }
    scalars.push(base);
    points.push(RISTRETTO_BASEPOINT_POINT);
    RistrettoPoint::vartime_multiscalar_mul(scalars, points).is_identity()
}

/// A statement as numbers: it holds where `s*G - c*X == R`.
struct Claim {
    r: RistrettoPoint,
    s: Scalar,
    x: RistrettoPoint,
    c: Scalar,
}

fn decode(statement: &Statement<'_>) -> Option<Claim> {
    let Statement { point, id, context, proof } = *statement;
    if !context.is_legal() {
        return None;
    }
    let (commitment, s) = proof.split_first_chunk::<32>()?;
    let s: Option<Scalar> = Scalar::from_canonical_bytes(s.try_into().ok()?).into();
    Some(Claim {
        r: decode_point(commitment)?,
        s: s?,
        x: decode_point(point)?,
        c: challenge(id, point, commitment, &context.encode()),
    })
}

fn challenge(id: &ChunkId, point: &[u8; 32], commitment: &[u8; 32], ctx: &[u8]) -> Scalar {
    hash_to_scalar(b"quloud/v1/challenge", &[id.as_bytes(), point, commitment, ctx])
}

pub(super) fn hash_to_scalar(domain: &[u8], parts: &[&[u8]]) -> Scalar {
    let length = u8::try_from(domain.len()).expect("domains are short constants");
    let mut hash = Sha512::new();
    hash.update([length]);
    hash.update(domain);
    for part in parts {
        hash.update(part);
    }
    let mut wide = Zeroizing::new([0; 64]);
    hash.finalize_into((&mut *wide).into());
    Scalar::from_bytes_mod_order_wide(&wide)
}

/// SHA-256 of a request body, as it stands in a [`Context`].
pub fn body_hash(parts: &[&[u8]]) -> [u8; 32] {
    sha256(parts)
}

#[cfg(test)]
mod tests;
