//! Keys: the owner's hierarchy, which the words bring back, and the node's own, which they do not.
//!
//! ```text
//! master (32 bytes = 24 words)
//!   `- HKDF-SHA256(master, "quloud/v1/<purpose>" || generation)
//!        dedup    -> chunk key ck = keyed BLAKE3(dedup, variant || kind || plaintext)
//!                      ck -> seal key, nonce key, read scalar y (Y = y*G)
//!        admin    -> z (Z = z*G): store, locate, unrelease; and the tweak t of D
//!        delete   -> root scalar e (E = e*G); d = e + t, D = E + t*G: release. A device may lack
//!                    the key: E alone lets it make headers, and releases nothing
//!        audit    -> a_h for each holder (A_h = the owner's account there) -> pairwise audit key
//!                    and the key of the chunks' tags
//!        chunker, head
//! ```
//! Each secret is a type of its own, wiped when dropped, without `Clone`, and prints as
//! `Name(..)`. "Generation" is a `u32` in little-endian order everywhere.

use super::audit::TagKey;
use super::header::decode_point;
use super::{expand, extract_and_expand, keyed_hash};
use crate::core::types::{Account, Locality, NodeId};
use curve25519_dalek::{RistrettoPoint, Scalar};
use ed25519_dalek::{Signer, SigningKey};
use rand::CryptoRng;
use std::sync::Arc;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Declares a 32-byte secret: wiped on drop, compared never, printed never.
macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes the 32 bytes over.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes themselves: for sealing at rest and for test vectors.
            pub fn expose(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

secret! {
    /// The owner master: all that the 24 words hold.
    Master
}
secret! {
    /// Makes content-derived chunk keys, so that equal content of one owner is one chunk.
    DedupKey
}
secret! {
    /// Keys the chunker's gear table, so that chunk sizes do not fingerprint known files.
    ChunkerKey
}
secret! {
    /// Root of the head records' keys.
    HeadKey
}
secret! {
    /// Root of the scalars that administer a chunk: store, locate, unrelease.
    AdminKey
}
secret! {
    /// Root of the scalars that release a chunk. A device may be without it.
    DeleteKey
}
secret! {
    /// Root of the owner's accounts at holders and of the audit keys.
    AuditPurposeKey
}
secret! {
    /// A chunk's key: whoever has it, the id and the locality can fetch and read the chunk.
    ChunkKey
}
secret! {
    /// XSalsa20-Poly1305 key of one chunk.
    SealKey
}
secret! {
    /// Keys the nonce hash of one chunk.
    NonceKey
}
secret! {
    /// Authenticates every account operation between one owner and one holder.
    PairKey
}
secret! {
    /// Under which a holder wraps what it stores.
    WrapKey
}

impl Master {
    /// A new master from `rng`.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(random(rng))
    }

    fn purpose(&self, purpose: &str, generation: u32) -> [u8; 32] {
        let info: [&[u8]; 3] = [b"quloud/v1/", purpose.as_bytes(), &generation.to_le_bytes()];
        extract_and_expand(&self.0, &info)
    }
}

/// The keys of one generation that an owner's device works with.
#[derive(Debug)]
pub struct OwnerKeys {
    /// Which generation these are; 0 is the first.
    pub generation: u32,
    /// See [`DedupKey`].
    pub dedup: DedupKey,
    /// See [`ChunkerKey`].
    pub chunker: ChunkerKey,
    /// See [`HeadKey`].
    pub head: HeadKey,
    /// See [`AdminKey`].
    pub admin: AdminKey,
    /// See [`DeleteKey`]; `None` on a device that was told to live without it.
    pub delete: Option<DeleteKey>,
    /// E, the public half of the delete key: enough to make headers.
    pub delete_root: DeleteRoot,
    /// See [`AuditPurposeKey`].
    pub audit: AuditPurposeKey,
    /// See [`TagKey`]: of the audit purpose. Shared, since it is 8 KiB and audits outlive their
    /// callers.
    pub tag_key: Arc<TagKey>,
}

impl OwnerKeys {
    /// Derives all purposes of `generation` from the master.
    pub fn derive(master: &Master, generation: u32) -> Self {
        let delete = DeleteKey(master.purpose("delete", generation));
        let audit = AuditPurposeKey(master.purpose("audit", generation));
        Self {
            generation,
            dedup: DedupKey(master.purpose("dedup", generation)),
            chunker: ChunkerKey(master.purpose("chunker", generation)),
            head: HeadKey(master.purpose("head", generation)),
            admin: AdminKey(master.purpose("admin", generation)),
            delete_root: delete.public(),
            delete: Some(delete),
            tag_key: Arc::new(TagKey::derive(generation, &audit)),
            audit,
        }
    }

    /// Y, Z and D of the chunk with key `ck`, as its header holds them.
    pub fn points(&self, ck: &ChunkKey) -> [[u8; 32]; 3] {
        let tweak = self.admin.delete_tweak(ck);
        let delete = self.delete_root.0 + RistrettoPoint::mul_base(tweak.scalar());
        [
            ck.read_secret().point(),
            self.admin.chunk_secret(ck).point(),
            delete.compress().to_bytes(),
        ]
    }

    /// Where the topics of all the owner's chunks are: the same on every device, so that equal
    /// contents are one chunk with one place.
    pub fn locality(&self) -> Locality {
        Locality(u16::from_le_bytes(expand(self.dedup.expose(), &[b"quloud/v1/locality"])))
    }

    /// The owner's account at `holder`: a key pair that nothing links to another holder's.
    pub fn account(&self, holder: &NodeId) -> AccountSecret {
        let info: [&[u8]; 2] = [b"quloud/v1/account", holder.as_bytes()];
        AccountSecret(StaticSecret::from(expand::<32>(self.audit.expose(), &info)))
    }
}

/// a_h: the owner's secret half of its account at one holder (X25519).
pub struct AccountSecret(StaticSecret);

impl AccountSecret {
    /// A_h, the account's public name: 32 bytes.
    pub fn account(&self) -> Account {
        Account::from_bytes(PublicKey::from(&self.0).to_bytes())
    }

    /// The pairwise key with `holder`, whose agreement key is `agreement`.
    ///
    /// `None` where the agreement key is of small order (RFC 7748 section 6.1): such a key comes
    /// from a cheat or a fault.
    pub fn pair_key(&self, holder: &NodeId, agreement: &AgreementKey) -> Option<PairKey> {
        let shared = self.0.diffie_hellman(&PublicKey::from(agreement.0));
        pair_key(&shared, &self.account(), agreement, holder)
    }
}

impl std::fmt::Debug for AccountSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccountSecret(..)")
    }
}

fn pair_key(
    shared: &x25519_dalek::SharedSecret,
    account: &Account,
    agreement: &AgreementKey,
    holder: &NodeId,
) -> Option<PairKey> {
    let info: [&[u8]; 4] = [b"quloud/v1/pair", account.as_bytes(), &agreement.0, holder.as_bytes()];
    shared.was_contributory().then(|| PairKey(extract_and_expand(shared.as_bytes(), &info)))
}

impl ChunkKey {
    /// `keyed BLAKE3(dedup key, variant || kind || plaintext)`: 32 bytes.
    ///
    /// `variant` is 0 until the replicas of a chunk are made distinct; `kind` is the frame's kind.
    pub fn derive(dedup: &DedupKey, variant: u8, kind: u8, plaintext: &[u8]) -> Self {
        Self(keyed_hash(&dedup.0, &[&[variant, kind], plaintext]))
    }

    /// The key of the owner's seal.
    pub fn seal_key(&self) -> SealKey {
        SealKey(expand(&self.0, &[b"quloud/v1/seal"]))
    }

    /// The key of the nonce hash.
    pub fn nonce_key(&self) -> NonceKey {
        NonceKey(expand(&self.0, &[b"quloud/v1/seal-nonce"]))
    }

    /// y, whose knowledge is the right to fetch the chunk.
    pub fn read_secret(&self) -> ChunkSecret {
        ChunkSecret::expand(&self.0, &[b"quloud/v1/read"])
    }

    /// A copy for a second user of the same chunk; explicit, because keys are not `Clone`.
    pub fn duplicate(&self) -> Self {
        Self(self.0)
    }

    /// The label under which the admin and delete scalars of this chunk are derived: 32 bytes.
    fn label(&self) -> [u8; 32] {
        expand(&self.0, &[b"quloud/v1/label"])
    }
}

impl AdminKey {
    /// z of the chunk with key `ck`.
    pub fn chunk_secret(&self, ck: &ChunkKey) -> ChunkSecret {
        ChunkSecret::expand(&self.0, &[b"quloud/v1/admin-scalar", &ck.label()])
    }

    /// t, by which D of the chunk with key `ck` differs from the owner's root E.
    fn delete_tweak(&self, ck: &ChunkKey) -> ChunkSecret {
        ChunkSecret::expand(&self.0, &[b"quloud/v1/delete-tweak", &ck.label()])
    }
}

impl DeleteKey {
    /// d = e + t of the chunk with key `ck`.
    pub fn chunk_secret(&self, admin: &AdminKey, ck: &ChunkKey) -> ChunkSecret {
        ChunkSecret(self.root().0 + admin.delete_tweak(ck).0)
    }

    /// E = e*G.
    pub fn public(&self) -> DeleteRoot {
        DeleteRoot(RistrettoPoint::mul_base(self.root().scalar()))
    }

    /// e.
    fn root(&self) -> ChunkSecret {
        ChunkSecret::expand(&self.0, &[b"quloud/v1/delete-root"])
    }
}

/// E, the public half of a delete key: never the identity, under which D would be t*G and the
/// admin key alone could release.
///
/// Whoever knows E and an owner's admin key can tell which chunks are that owner's: not printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DeleteRoot(RistrettoPoint);

impl DeleteRoot {
    /// From its canonical encoding; `None` for anything else, and for the identity.
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        decode_point(bytes).map(Self)
    }

    /// The canonical encoding.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.compress().to_bytes()
    }
}

impl std::fmt::Debug for DeleteRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeleteRoot(..)")
    }
}

/// y, z or d: a secret scalar of Ristretto255 whose point stands in a chunk's header.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ChunkSecret(Scalar);

impl ChunkSecret {
    /// 64 bytes of HKDF output, reduced modulo the group order (bias below 2^-250).
    pub(super) fn expand(prk: &[u8; 32], info: &[&[u8]]) -> Self {
        let wide = Zeroizing::new(expand::<64>(prk, info));
        Self(Scalar::from_bytes_mod_order_wide(&wide))
    }

    /// x*G as the 32 bytes of its canonical encoding.
    pub fn point(&self) -> [u8; 32] {
        RistrettoPoint::mul_base(&self.0).compress().to_bytes()
    }

    /// A copy for a second user of the same chunk; explicit, because secrets are not `Clone`.
    pub fn duplicate(&self) -> Self {
        Self(self.0)
    }

    pub(crate) fn scalar(&self) -> &Scalar {
        &self.0
    }
}

impl std::fmt::Debug for ChunkSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChunkSecret(..)")
    }
}

/// N: the public X25519 key under which owners agree on a pairwise key with this node. 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgreementKey(pub [u8; 32]);

/// The node's own keys: replaceable, and of no use to restore anything.
pub struct NodeKeys {
    signing: SigningKey,
    agreement: StaticSecret,
    /// Of `agreement`: each pairwise key is bound to it.
    public: AgreementKey,
    wrap: WrapKey,
}

impl NodeKeys {
    /// New keys from `rng`.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self::from_seeds(random(rng), random(rng), random(rng))
    }

    /// From three 32-byte seeds: Ed25519 secret key, X25519 secret key, wrap key.
    pub fn from_seeds(mut signing: [u8; 32], agreement: [u8; 32], wrap: [u8; 32]) -> Self {
        let key = SigningKey::from_bytes(&signing);
        signing.zeroize();
        let agreement = StaticSecret::from(agreement);
        let public = AgreementKey(PublicKey::from(&agreement).to_bytes());
        Self { signing: key, agreement, public, wrap: WrapKey(wrap) }
    }

    /// The three seeds as 96 bytes, for sealing at rest.
    pub fn to_seeds(&self) -> Zeroizing<[u8; 96]> {
        let mut out = Zeroizing::new([0; 96]);
        let (signing, rest) = out.split_at_mut(32);
        let (agreement, wrap) = rest.split_at_mut(32);
        signing.copy_from_slice(self.signing.as_bytes());
        agreement.copy_from_slice(self.agreement.as_bytes());
        wrap.copy_from_slice(&self.wrap.0);
        out
    }

    /// The node's name: its Ed25519 public key.
    pub fn node_id(&self) -> NodeId {
        NodeId::from_bytes(self.signing.verifying_key().to_bytes())
    }

    /// N.
    pub fn agreement_key(&self) -> AgreementKey {
        self.public
    }

    /// Ed25519 signature (RFC 8032, 64 bytes) over
    /// `len(domain) u8 || "quloud/v1/agreement" || N`.
    pub fn sign_agreement(&self) -> [u8; 64] {
        self.sign(&agreement_statement(&self.agreement_key()))
    }

    /// The pairwise key with the owner of `account`; `None` where the account is of small order.
    pub fn pair_key(&self, account: &Account) -> Option<PairKey> {
        let shared = self.agreement.diffie_hellman(&PublicKey::from(*account.as_bytes()));
        pair_key(&shared, account, &self.agreement_key(), &self.node_id())
    }

    /// The wrap key of the bytes at rest.
    pub fn wrap_key(&self) -> &WrapKey {
        &self.wrap
    }

    /// The Ed25519 secret key, for the transport's own identity.
    pub fn signing_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.signing.to_bytes())
    }

    pub(crate) fn sign(&self, statement: &[u8]) -> [u8; 64] {
        self.signing.sign(statement).to_bytes()
    }
}

impl std::fmt::Debug for NodeKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeKeys({})", self.node_id())
    }
}

/// Whether `signature` is `node`'s own over the agreement key `key`.
pub fn verify_agreement(node: &NodeId, key: &AgreementKey, signature: &[u8; 64]) -> bool {
    verify_signature(node, &agreement_statement(key), signature)
}

fn agreement_statement(key: &AgreementKey) -> Vec<u8> {
    const DOMAIN: &[u8; 19] = b"quloud/v1/agreement";
    [&[DOMAIN.len() as u8], DOMAIN.as_slice(), &key.0].concat()
}

/// Strict Ed25519 verification: small-order points and non-canonical encodings, of the key too, are
/// refused, so that one signature has one form and one key has one name.
pub(crate) fn verify_signature(node: &NodeId, statement: &[u8], signature: &[u8; 64]) -> bool {
    let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(node.as_bytes()) else {
        return false;
    };
    if key.to_edwards().compress().as_bytes() != node.as_bytes() {
        return false;
    }
    key.verify_strict(statement, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
}

pub(crate) fn random<const N: usize>(rng: &mut impl CryptoRng) -> [u8; N] {
    let mut out = [0; N];
    rng.fill_bytes(&mut out);
    out
}

#[cfg(test)]
mod tests;
