//! Keys: published vectors, one key for each purpose, both halves of an account agree.

use super::*;
use crate::crypto::tests::{chunk_key, owner, rng, unhex, unhex_exact};
use std::collections::BTreeSet;

fn node(seed: u8) -> NodeKeys {
    NodeKeys::from_seeds([seed; 32], [seed + 1; 32], [seed + 2; 32])
}

#[test]
fn node_signatures_are_those_of_rfc_8032() {
    let cases = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            [
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bac",
                "c61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ],
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            [
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e",
                "458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ],
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            [
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290",
                "ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ],
        ),
    ];
    for (secret, public, message, signature) in cases {
        let keys = NodeKeys::from_seeds(unhex_exact(secret), [0; 32], [0; 32]);
        let message = unhex(&[message]);
        assert_eq!(keys.node_id().to_string(), public);
        let made = keys.sign(&message);
        assert_eq!(hex::encode(made), signature.concat());
        assert!(verify_signature(&keys.node_id(), &message, &made));
    }
}

#[test]
fn agreement_is_the_one_of_rfc_7748() {
    let cases = [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
        (
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
        ),
    ];
    for (secret, public, shared) in cases {
        let secret = StaticSecret::from(unhex_exact::<32>(secret));
        let made = secret.diffie_hellman(&PublicKey::from(unhex_exact::<32>(public)));
        assert_eq!(hex::encode(made.as_bytes()), shared);
    }
    let (mut k, mut u) = ([0; 32], [0; 32]);
    (k[0], u[0]) = (9, 9);
    for _ in 0..1_000 {
        let next = StaticSecret::from(k).diffie_hellman(&PublicKey::from(u)).to_bytes();
        (u, k) = (k, next);
    }
    let expected = "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51";
    assert_eq!(hex::encode(k), expected);
}

#[test]
fn owner_and_holder_agree_on_their_pair_key() {
    let (keys, holder) = (owner(1), node(10));
    let account = keys.account(&holder.node_id());
    let ours = account.pair_key(&holder.node_id(), &holder.agreement_key()).unwrap();
    let theirs = holder.pair_key(&account.account()).unwrap();
    assert_eq!(ours.expose(), theirs.expose());
    let stranger = owner(2).account(&holder.node_id());
    let other = stranger.pair_key(&holder.node_id(), &holder.agreement_key()).unwrap();
    assert_ne!(ours.expose(), other.expose());
}

#[test]
fn accounts_at_two_holders_are_not_the_same() {
    let keys = owner(1);
    let (left, right) = (node(10).node_id(), node(20).node_id());
    assert_ne!(keys.account(&left).account(), keys.account(&right).account());
    assert_eq!(keys.account(&left).account(), owner(1).account(&left).account());
}

#[test]
fn a_key_of_small_order_makes_no_pair() {
    let holder = node(10);
    let account = owner(1).account(&holder.node_id());
    let mut one = [0; 32];
    one[0] = 1;
    for public in [[0; 32], one] {
        assert!(account.pair_key(&holder.node_id(), &AgreementKey(public)).is_none());
        assert!(holder.pair_key(&Account::from_bytes(public)).is_none());
    }
}

#[test]
fn an_agreement_key_is_signed_by_its_node() {
    let holder = node(10);
    let signature = holder.sign_agreement();
    assert!(verify_agreement(&holder.node_id(), &holder.agreement_key(), &signature));
    assert!(!verify_agreement(&node(20).node_id(), &holder.agreement_key(), &signature));
    let other = node(20).agreement_key();
    assert!(!verify_agreement(&holder.node_id(), &other, &signature));
}

#[test]
fn no_two_purposes_or_generations_share_a_key() {
    let master = Master::from_bytes([1; 32]);
    let mut seen = BTreeSet::new();
    for generation in [0, 1, 256, u32::MAX] {
        let keys = OwnerKeys::derive(&master, generation);
        let ck = ChunkKey::derive(&keys.dedup, 0, 0, b"");
        let delete = keys.delete.as_ref().unwrap();
        for key in [
            *keys.dedup.expose(),
            *keys.chunker.expose(),
            *keys.head.expose(),
            *keys.admin.expose(),
            *keys.audit.expose(),
            *delete.expose(),
            *ck.expose(),
            *ck.seal_key().expose(),
            *ck.nonce_key().expose(),
            ck.label(),
            ck.read_secret().scalar().to_bytes(),
            keys.admin.chunk_secret(&ck).scalar().to_bytes(),
            keys.admin.delete_tweak(&ck).scalar().to_bytes(),
            delete.root().scalar().to_bytes(),
            delete.chunk_secret(&keys.admin, &ck).scalar().to_bytes(),
        ] {
            assert!(seen.insert(key), "a key appears twice in generation {generation}");
        }
    }
}

#[test]
fn variant_kind_and_content_each_change_the_chunk_key() {
    let dedup = DedupKey::from_bytes([1; 32]);
    let keys = [
        ChunkKey::derive(&dedup, 0, 1, b"ab"),
        ChunkKey::derive(&dedup, 1, 1, b"ab"),
        ChunkKey::derive(&dedup, 0, 2, b"ab"),
        ChunkKey::derive(&dedup, 0, 1, b"ac"),
        ChunkKey::derive(&dedup, 0, 1, b"a"),
        ChunkKey::derive(&DedupKey::from_bytes([2; 32]), 0, 1, b"ab"),
    ];
    let distinct: BTreeSet<_> = keys.iter().map(ChunkKey::expose).collect();
    assert_eq!(distinct.len(), keys.len());
}

#[test]
fn the_points_of_a_header_belong_to_the_three_secrets() {
    let keys = owner(1);
    let ck = chunk_key(&keys, b"content");
    let delete = keys.delete.as_ref().unwrap();
    let expected = [
        ck.read_secret().point(),
        keys.admin.chunk_secret(&ck).point(),
        delete.chunk_secret(&keys.admin, &ck).point(),
    ];
    assert_eq!(keys.points(&ck), expected);
}

#[test]
fn a_device_without_the_delete_key_makes_the_same_headers() {
    let full = owner(1);
    let ck = chunk_key(&full, b"content");
    let lesser = OwnerKeys { delete: None, ..owner(1) };
    assert_eq!(lesser.points(&ck), full.points(&ck));
}

#[test]
fn the_admin_key_alone_gives_neither_read_nor_delete() {
    let (keys, other) = (owner(1), owner(2));
    let ck = chunk_key(&keys, b"content");
    let [_, _, delete] = keys.points(&ck);
    // All that the admin key and ck give: z, and the tweak t.
    assert_ne!(keys.admin.chunk_secret(&ck).point(), delete);
    assert_ne!(keys.admin.delete_tweak(&ck).point(), delete);
    // Another owner's delete key does not fit.
    let foreign = other.delete.as_ref().unwrap().chunk_secret(&keys.admin, &ck);
    assert_ne!(foreign.point(), delete);
}

#[test]
fn a_delete_root_is_a_point_and_not_the_identity() {
    let root = owner(1).delete_root;
    assert_eq!(DeleteRoot::from_bytes(&root.to_bytes()), Some(root));
    assert_eq!(DeleteRoot::from_bytes(&[0; 32]), None);
    assert_eq!(DeleteRoot::from_bytes(&[0xff; 32]), None);
}

#[test]
fn node_keys_come_back_from_their_seeds() {
    let keys = NodeKeys::generate(&mut rng());
    let seeds = keys.to_seeds();
    let (signing, rest) = seeds.split_at(32);
    let (agreement, wrap) = rest.split_at(32);
    let [signing, agreement, wrap] =
        [signing, agreement, wrap].map(|seed| <[u8; 32]>::try_from(seed).unwrap());
    let again = NodeKeys::from_seeds(signing, agreement, wrap);
    assert_eq!(again.node_id(), keys.node_id());
    assert_eq!(again.agreement_key(), keys.agreement_key());
    assert_eq!(again.wrap_key().expose(), keys.wrap_key().expose());
    assert_eq!(*again.signing_seed(), signing);
}

#[test]
fn no_secret_is_printed() {
    let (keys, holder) = (owner(0xaa), node(0xa0));
    let ck = chunk_key(&keys, b"content");
    let printed = format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        keys,
        holder,
        ck,
        ck.read_secret(),
        keys.account(&holder.node_id()),
        Master::from_bytes([0xaa; 32]),
        holder.wrap_key(),
    );
    let mut secrets = vec![
        *keys.dedup.expose(),
        *keys.admin.expose(),
        *keys.audit.expose(),
        keys.delete_root.to_bytes(),
        *ck.expose(),
        *holder.signing_seed(),
        *holder.wrap_key().expose(),
        [0xaa; 32],
    ];
    secrets.push(ck.read_secret().scalar().to_bytes());
    for secret in secrets {
        let (start, numbers) = (hex::encode(&secret[..4]), format!("{:?}", &secret[..3]));
        let numbers = numbers.trim_matches(['[', ']']);
        assert!(!printed.contains(&start) && !printed.contains(numbers), "{printed}");
    }
}
