//! Checks of single fields, and the messages inside messages that topics and streams share.

use super::{
    LABEL_BYTES_MAX, OFFERS_MAX, QUORUM_MAX, RECORD_BYTES_MAX, Reject, STAMP_BYTES_MAX, VERSION,
};
use crate::core::message::{Contact, Hello, Offer, StoreClaim, StoreRequest};
use crate::core::types::{CHUNK_SEALED_BYTES_MAX, ChunkId, LeaseTerms, MeshId, NodeId};
use crate::crypto::keys::AgreementKey;
use crate::crypto::seal::SEAL_OVERHEAD_BYTES;
use crate::proto;
use bytes::Bytes;
use std::collections::BTreeSet;

/// Exactly `N` bytes.
pub(super) fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Reject> {
    bytes.try_into().map_err(|_| Reject::Malformed)
}

/// `Ok` where the field is as the specification wants it.
pub(super) fn ensure(holds: bool) -> Result<(), Reject> {
    if holds { Ok(()) } else { Err(Reject::Malformed) }
}

/// Between 1 and `max` chunks, none twice.
pub(super) fn distinct(ids: impl Iterator<Item = ChunkId>, max: usize) -> Result<(), Reject> {
    let mut seen = BTreeSet::new();
    for id in ids {
        ensure(seen.len() < max && seen.insert(id))?;
    }
    ensure(!seen.is_empty())
}

pub(super) fn bytes(value: &[u8]) -> Bytes {
    Bytes::copy_from_slice(value)
}

pub(super) fn encode_terms(terms: &LeaseTerms) -> Option<proto::LeaseTerms> {
    Some(proto::LeaseTerms {
        renew_every_s: terms.renew_every_s,
        keep_after_silence_s: terms.keep_after_silence_s,
        release_delay_s: terms.release_delay_s,
    })
}

pub(super) fn decode_terms(terms: Option<proto::LeaseTerms>) -> Result<LeaseTerms, Reject> {
    let terms = terms.ok_or(Reject::Malformed)?;
    Ok(LeaseTerms {
        renew_every_s: terms.renew_every_s,
        keep_after_silence_s: terms.keep_after_silence_s,
        release_delay_s: terms.release_delay_s,
    })
}

pub(super) fn encode_hello(hello: &Hello) -> proto::Hello {
    proto::Hello {
        version: VERSION,
        node: bytes(hello.node.as_bytes()),
        mesh: bytes(hello.mesh.as_bytes()),
        agreement: bytes(&hello.agreement.0),
        agreement_signature: bytes(&hello.agreement_signature),
        site: hello.site.clone(),
        operator: hello.operator.clone(),
    }
}

pub(super) fn decode_hello(hello: proto::Hello) -> Result<Hello, Reject> {
    super::checked_version(hello.version)?;
    Ok(Hello {
        node: NodeId::from_bytes(array(&hello.node)?),
        mesh: MeshId::from_bytes(array(&hello.mesh)?),
        agreement: AgreementKey(array(&hello.agreement)?),
        agreement_signature: array(&hello.agreement_signature)?,
        site: label(hello.site)?,
        operator: label(hello.operator)?,
    })
}

/// A short text that is shown to users: no control characters, which would reach their terminals.
fn label(text: String) -> Result<String, Reject> {
    ensure(text.len() <= LABEL_BYTES_MAX && !text.chars().any(char::is_control))?;
    Ok(text)
}

pub(super) fn encode_contact(contact: &Contact) -> proto::Contact {
    proto::Contact { record: contact.record.clone(), hello: Some(encode_hello(&contact.hello)) }
}

pub(super) fn decode_contact(contact: proto::Contact) -> Result<Contact, Reject> {
    ensure((1..=RECORD_BYTES_MAX).contains(&contact.record.len()))?;
    let hello = decode_hello(contact.hello.ok_or(Reject::Malformed)?)?;
    Ok(Contact { record: contact.record, hello })
}

pub(super) fn encode_request(request: &StoreRequest) -> proto::StoreRequest {
    let offer = |offer: &Offer| proto::Offer {
        id: bytes(offer.id.as_bytes()),
        sealed_bytes: offer.sealed_bytes,
    };
    proto::StoreRequest {
        ephemeral: bytes(&request.ephemeral),
        attempt: request.attempt,
        probability: request.probability.into(),
        quorum: request.quorum.into(),
        terms: encode_terms(&request.terms),
        offers: request.offers.iter().map(offer).collect(),
        stamp: request.stamp.clone(),
    }
}

pub(super) fn decode_request(request: proto::StoreRequest) -> Result<StoreRequest, Reject> {
    let probability = u16::try_from(request.probability).map_err(|_| Reject::Malformed)?;
    let quorum = u8::try_from(request.quorum).map_err(|_| Reject::Malformed)?;
    ensure((1..=QUORUM_MAX).contains(&quorum))?;
    ensure(request.stamp.len() <= STAMP_BYTES_MAX)?;
    ensure(request.offers.len() <= OFFERS_MAX)?;
    let offers = request.offers.iter().map(decode_offer).collect::<Result<Vec<_>, _>>()?;
    distinct(offers.iter().map(|offer| offer.id), OFFERS_MAX)?;
    Ok(StoreRequest {
        ephemeral: array(&request.ephemeral)?,
        attempt: request.attempt,
        probability,
        quorum,
        terms: decode_terms(request.terms)?,
        offers,
        stamp: request.stamp,
    })
}

fn decode_offer(offer: &proto::Offer) -> Result<Offer, Reject> {
    let sealed_bytes = offer.sealed_bytes;
    ensure(sealed_bytes > SEAL_OVERHEAD_BYTES as u32 && sealed_bytes <= CHUNK_SEALED_BYTES_MAX)?;
    Ok(Offer { id: ChunkId::from_bytes(array(&offer.id)?), sealed_bytes })
}

pub(super) fn encode_claim(claim: &StoreClaim) -> proto::StoreClaim {
    proto::StoreClaim {
        contact: claim.contact.as_ref().map(encode_contact),
        ephemeral: bytes(&claim.ephemeral),
        wants: claim.wants,
        holds: claim.holds,
    }
}

/// What is held counts as wanted. Whether there must be a contact depends on the way it came.
pub(super) fn decode_claim(claim: proto::StoreClaim) -> Result<StoreClaim, Reject> {
    ensure(claim.holds & !claim.wants == 0)?;
    Ok(StoreClaim {
        contact: claim.contact.map(decode_contact).transpose()?,
        ephemeral: array(&claim.ephemeral)?,
        wants: claim.wants,
        holds: claim.holds,
    })
}
