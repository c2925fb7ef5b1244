//! Claims everything first, and says to hold it already; then turns it down, swallows it, or goes.

use super::{Behaviour, Env};
use crate::node::Role;
use bytes::Bytes;
use quloud::core::codec;
use quloud::core::effect::{Effect, Input, Via};
use quloud::core::message::{
    Answer, AnswerBody, Message, SignedAnswer, StoreClaim, StoreRefusal, StoreReject, StoreRequest,
    StreamMessage, TopicMessage,
};
use quloud::core::types::{AnswerTag, Time};
use quloud::crypto::seal::seal_to;
use rand::RngExt;
use rand::seq::IteratorRandom;
use std::time::Duration;

/// How long it is deaf after it has been given something, when it goes.
const GONE: Duration = Duration::from_secs(6 * 3_600);

#[derive(Default)]
pub(crate) struct Squatter {
    deaf_until: Time,
}

impl Behaviour for Squatter {
    fn name(&self) -> &'static str {
        "claims all and takes nothing"
    }

    fn input(&mut self, env: &mut Env<'_>, _: Role, input: Input) -> Option<Input> {
        let Input::Message { from, via, message } = input else { return Some(input) };
        if env.now < self.deaf_until {
            return None;
        }
        match (via, message) {
            (Via::Topic, Message::Topic(TopicMessage::StoreRequest(request))) => {
                let claimed = claim(env, &request);
                env.effects.extend(claimed);
                env.acts += 1;
                None
            }
            (Via::Stream, Message::Stream(StreamMessage::StoreRequest(request))) => {
                let message = StreamMessage::StoreClaim(all_of(env, &request));
                env.effects.push(Effect::Send { to: from, message });
                env.acts += 1;
                None
            }
            (Via::Stream, Message::Stream(StreamMessage::StoreChunk(chunk))) => {
                env.acts += 1;
                match env.rng.random_range(0..8) {
                    0 => self.deaf_until = env.now.after(GONE),
                    1 | 2 => {}
                    _ => {
                        let reason = reason(env);
                        let (batch, id) = (chunk.batch, chunk.header.id());
                        let reject = StoreReject { batch, id, reason };
                        let message = StreamMessage::StoreReject(reject);
                        env.effects.push(Effect::Send { to: from, message });
                    }
                }
                None
            }
            (via, message) => Some(Input::Message { from, via, message }),
        }
    }
}

/// A claim for everything, also for what was not offered.
fn all_of(env: &mut Env<'_>, request: &StoreRequest) -> StoreClaim {
    let holds = if env.rng.random() { u64::MAX } else { 0 };
    StoreClaim { contact: None, ephemeral: request.ephemeral, wants: u64::MAX, holds }
}

/// The same for everybody to hear, at once: honest nodes wait a little.
fn claim(env: &mut Env<'_>, request: &StoreRequest) -> Option<Effect> {
    let claim = StoreClaim { contact: Some(env.contact()), ..all_of(env, request) };
    let answer = SignedAnswer::new(AnswerBody::Claim(claim), request.digest(), env.keys);
    let sealed = seal_to(&request.ephemeral, &codec::encode_answer(&answer), env.rng)?;
    let tag = AnswerTag::of(&request.ephemeral);
    let topic = env.answer_topic(&tag);
    let answer = Answer { tag, sealed: Bytes::from(sealed) };
    Some(Effect::Publish { topic, message: TopicMessage::Answer(answer) })
}

fn reason(env: &mut Env<'_>) -> StoreRefusal {
    use StoreRefusal::{Busy, Failed, Full, Invalid, OverQuota, Unwilling};
    [Busy, Failed, Full, Invalid, OverQuota, Unwilling].into_iter().choose(env.rng).unwrap_or(Full)
}
