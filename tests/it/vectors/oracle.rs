//! A second implementation of the layouts and transcripts, as short as it can be: from the
//! specification alone, with other crates than the library where there are any.

use curve25519_dalek::{RistrettoPoint, Scalar};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};

pub(super) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    Sha256::digest(parts.concat()).into()
}

pub(super) fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// HKDF-Expand, written out from RFC 5869 section 2.3.
pub(super) fn expand<const N: usize>(prk: &[u8], info: &[&[u8]]) -> [u8; N] {
    let (mut out, mut block) = (Vec::new(), Vec::new());
    for counter in 1..=u8::MAX {
        block = hmac(prk, &[block.as_slice(), &info.concat(), &[counter]].concat());
        out.extend_from_slice(&block);
        if out.len() >= N {
            break;
        }
    }
    out.truncate(N);
    out.try_into().unwrap()
}

/// HKDF-Extract without a salt, then HKDF-Expand.
pub(super) fn hkdf<const N: usize>(ikm: &[u8], info: &[&[u8]]) -> [u8; N] {
    expand(&hmac(&[0; 32], ikm), info)
}

pub(super) fn blake3(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

pub(super) fn keyed_blake3(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    *blake3::keyed_hash(key, &parts.concat()).as_bytes()
}

/// A secret scalar: 64 bytes of HKDF-Expand modulo the group's order.
pub(super) fn scalar(prk: &[u8], info: &[&[u8]]) -> Scalar {
    Scalar::from_bytes_mod_order_wide(&expand(prk, info))
}

pub(super) fn point(scalar: &Scalar) -> [u8; 32] {
    RistrettoPoint::mul_base(scalar).compress().to_bytes()
}

pub(super) fn h512(domain: &[u8], parts: &[&[u8]]) -> Scalar {
    let length = [u8::try_from(domain.len()).unwrap()];
    let hash = Sha512::digest([&length, domain, &parts.concat()].concat());
    Scalar::from_bytes_mod_order_wide(&hash.into())
}

/// The scalars y, z, t, e and d = e + t of a chunk.
pub(super) struct Scalars {
    pub(super) y: Scalar,
    pub(super) z: Scalar,
    pub(super) t: Scalar,
    pub(super) e: Scalar,
    pub(super) d: Scalar,
}

impl Scalars {
    pub(super) fn derive(ck: &[u8], admin: &[u8], delete: &[u8]) -> Self {
        let label = expand::<32>(ck, &[b"quloud/v1/label"]);
        let t = scalar(admin, &[b"quloud/v1/delete-tweak", &label]);
        let e = scalar(delete, &[b"quloud/v1/delete-root"]);
        Self {
            y: scalar(ck, &[b"quloud/v1/read"]),
            z: scalar(admin, &[b"quloud/v1/admin-scalar", &label]),
            t,
            e,
            d: e + t,
        }
    }
}

/// What a proof is made of, by hand.
pub(super) struct Prover<'a> {
    pub(super) x: Scalar,
    pub(super) id: &'a [u8],
    pub(super) context: &'a [u8],
    pub(super) fresh: &'a [u8],
}

impl Prover<'_> {
    pub(super) fn r(&self) -> Scalar {
        let x = self.x.to_bytes();
        h512(b"quloud/v1/nonce", &[&x, self.fresh, self.id, self.context])
    }

    pub(super) fn challenge(&self) -> Scalar {
        let (x, r) = (point(&self.x), point(&self.r()));
        h512(b"quloud/v1/challenge", &[self.id, &x, &r, self.context])
    }

    pub(super) fn proof(&self) -> [u8; 64] {
        proof(&self.r(), &(self.r() + self.challenge() * self.x))
    }
}

/// `R || s`.
pub(super) fn proof(r: &Scalar, s: &Scalar) -> [u8; 64] {
    [point(r), s.to_bytes()].concat().try_into().unwrap()
}

/// The group's order as an integer, little-endian.
pub(super) const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// The same number modulo the group's order in another, illegal form: `s + times * order`.
pub(super) fn shift(s: &[u8], times: usize) -> [u8; 32] {
    let mut out: [u8; 32] = s.try_into().unwrap();
    for _ in 0..times {
        let mut carry = 0;
        for (byte, order) in out.iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
        }
        assert_eq!(carry, 0, "it no longer fits 32 bytes");
    }
    out
}
