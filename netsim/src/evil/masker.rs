//! Answers in the name of others, and says that they are where it is itself.

use super::{Behaviour, Env};
use crate::node::Role;
use bytes::Bytes;
use quloud::core::codec;
use quloud::core::effect::{Effect, Input};
use quloud::core::message::{
    Answer, AnswerBody, Contact, Hello, Message, RetrieveOffer, SignedAnswer, StoreClaim,
    TopicMessage,
};
use quloud::core::types::{AnswerTag, NodeId, RequestDigest};
use quloud::crypto::seal;
use rand::RngExt;
use std::collections::BTreeMap;

/// Nodes of which it knows what they say of themselves.
const KEPT: usize = 64;

#[derive(Default)]
pub(crate) struct Masker {
    known: BTreeMap<NodeId, Hello>,
}

impl Masker {
    /// In the name of somebody, with a signature that is its own.
    fn answer(&self, env: &mut Env<'_>, request: &TopicMessage) -> Option<()> {
        let at = env.rng.random_range(0..self.known.len().max(1));
        let hello = self.known.values().nth(at)?.clone();
        let record = Bytes::copy_from_slice(env.keys.node_id().as_bytes());
        let contact = Some(Contact { record, hello });
        let (ephemeral, digest, body): ([u8; 32], RequestDigest, AnswerBody) = match request {
            TopicMessage::StoreRequest(request) => {
                let wants = (1_u64 << request.offers.len().min(63)) - 1;
                let ephemeral = request.ephemeral;
                let claim = StoreClaim { contact, ephemeral, wants, holds: wants };
                (ephemeral, request.digest(), AnswerBody::Claim(claim))
            }
            TopicMessage::SearchRequest(request) => {
                let holds = (1_u32 << request.wanted.len().min(31)) - 1;
                let offer = RetrieveOffer { contact, holds };
                (request.ephemeral, request.digest(), AnswerBody::Offer(offer))
            }
            TopicMessage::Answer(_) => return None,
        };
        let plain = codec::encode_answer(&SignedAnswer::new(body, digest, env.keys));
        let sealed = Bytes::from(seal::seal_to(&ephemeral, &plain, env.rng)?);
        let tag = AnswerTag::of(&ephemeral);
        let topic = env.answer_topic(&tag);
        let message = TopicMessage::Answer(Answer { tag, sealed });
        env.acts += 1;
        env.effects.push(Effect::Publish { topic, message });
        Some(())
    }
}

impl Behaviour for Masker {
    fn name(&self) -> &'static str {
        "answers in the name of others"
    }

    fn input(&mut self, env: &mut Env<'_>, _: Role, input: Input) -> Option<Input> {
        match &input {
            Input::PeerUp(peer) if self.known.len() < KEPT => {
                self.known.insert(peer.node, peer.hello.clone());
            }
            Input::Message { message: Message::Topic(request), .. } => {
                self.answer(env, request);
            }
            _ => {}
        }
        Some(input)
    }
}
