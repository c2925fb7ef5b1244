//! Gossiped messages, and what is inside the sealed box of an answer.

use super::field::{
    array, bytes, decode_claim, decode_contact, decode_request, distinct, encode_claim,
    encode_contact, encode_request, ensure,
};
use super::{Reject, VERSION, WANTED_MAX};
use crate::core::message::{
    Answer, AnswerBody, RetrieveOffer, SearchKind, SearchRequest, SignedAnswer, TopicMessage,
};
use crate::core::types::{AnswerTag, ChunkId};
use crate::crypto::ownership::Proof;
use crate::crypto::seal::SEALED_BOX_OVERHEAD_BYTES;
use crate::proto::{self, answer_body, topic_message::Body};

pub(super) fn encode(message: &TopicMessage) -> proto::TopicMessage {
    let body = match message {
        TopicMessage::StoreRequest(request) => Body::StoreRequest(encode_request(request)),
        TopicMessage::SearchRequest(request) => match request.kind {
            SearchKind::Retrieve => Body::RetrieveRequest(encode_search(request)),
            SearchKind::Locate => Body::LocateRequest(encode_search(request)),
        },
        TopicMessage::Answer(answer) => Body::Answer(proto::Answer {
            tag: bytes(answer.tag.as_bytes()),
            sealed: answer.sealed.clone(),
        }),
    };
    proto::TopicMessage { version: VERSION, body: Some(body) }
}

pub(super) fn decode(message: proto::TopicMessage) -> Result<TopicMessage, Reject> {
    Ok(match message.body.ok_or(Reject::Malformed)? {
        Body::StoreRequest(request) => TopicMessage::StoreRequest(decode_request(request)?),
        Body::RetrieveRequest(request) => {
            TopicMessage::SearchRequest(decode_search(SearchKind::Retrieve, request)?)
        }
        Body::LocateRequest(request) => {
            TopicMessage::SearchRequest(decode_search(SearchKind::Locate, request)?)
        }
        Body::Answer(answer) => {
            ensure(answer.sealed.len() > SEALED_BOX_OVERHEAD_BYTES)?;
            let tag = AnswerTag::from_bytes(array(&answer.tag)?);
            TopicMessage::Answer(Answer { tag, sealed: answer.sealed })
        }
    })
}

fn encode_search(request: &SearchRequest) -> proto::SearchRequest {
    let wanted = |(id, proof): &(ChunkId, Proof)| proto::Wanted {
        id: bytes(id.as_bytes()),
        proof: bytes(proof),
    };
    proto::SearchRequest {
        ephemeral: bytes(&request.ephemeral),
        attempt: request.attempt,
        nonce: bytes(&request.nonce),
        wanted: request.wanted.iter().map(wanted).collect(),
    }
}

fn decode_search(kind: SearchKind, request: proto::SearchRequest) -> Result<SearchRequest, Reject> {
    ensure(request.wanted.len() <= WANTED_MAX)?;
    let wanted = |wanted: &proto::Wanted| {
        Ok((ChunkId::from_bytes(array(&wanted.id)?), array(&wanted.proof)?))
    };
    let wanted = request.wanted.iter().map(wanted).collect::<Result<Vec<_>, _>>()?;
    distinct(wanted.iter().map(|(id, _)| *id), WANTED_MAX)?;
    Ok(SearchRequest {
        kind,
        ephemeral: array(&request.ephemeral)?,
        attempt: request.attempt,
        nonce: array(&request.nonce)?,
        wanted,
    })
}

pub(super) fn encode_answer(answer: &SignedAnswer) -> proto::AnswerBody {
    let body = match &answer.body {
        AnswerBody::Claim(claim) => answer_body::Body::Claim(encode_claim(claim)),
        AnswerBody::Offer(offer) => answer_body::Body::Offer(proto::RetrieveOffer {
            contact: offer.contact.as_ref().map(encode_contact),
            holds: offer.holds,
        }),
    };
    proto::AnswerBody { version: VERSION, body: Some(body), signature: bytes(&answer.signature) }
}

/// An answer to a nameless asker is of no use without a contact.
pub(super) fn decode_answer(answer: proto::AnswerBody) -> Result<SignedAnswer, Reject> {
    let signature = array(&answer.signature)?;
    let body = match answer.body.ok_or(Reject::Malformed)? {
        answer_body::Body::Claim(claim) => {
            ensure(claim.contact.is_some())?;
            AnswerBody::Claim(decode_claim(claim)?)
        }
        answer_body::Body::Offer(offer) => {
            let contact = decode_contact(offer.contact.ok_or(Reject::Malformed)?)?;
            AnswerBody::Offer(RetrieveOffer { contact: Some(contact), holds: offer.holds })
        }
    };
    Ok(SignedAnswer { body, signature })
}
