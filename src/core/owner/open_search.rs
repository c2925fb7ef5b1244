//! A search that went out on a topic and can be answered: for chunks, heads, or holders.

use super::opened::Opened;
use super::shared::Shared;
use crate::core::codec::Reject;
use crate::core::message::{Answer, AnswerBody, Contact, SearchKind, SearchRequest, TopicMessage};
use crate::core::topic::Topic;
use crate::core::types::{AnswerTag, ChunkId, NodeId, RequestDigest};
use crate::crypto::keys::{ChunkSecret, random};
use crate::crypto::ownership::prove;
use crate::crypto::seal::AnswerSecret;

/// See the module.
#[derive(Debug)]
pub(super) struct OpenSearch {
    /// Opens the answers.
    secret: AnswerSecret,
    /// Names it in answers.
    tag: AnswerTag,
    /// What went out: answers are signed for it.
    request: RequestDigest,
    /// Answers opened so far.
    opened: Opened,
}

impl OpenSearch {
    /// Publishes one for these chunks, under a fresh one-time key: 1 to 32 different ones, each
    /// with the secret of which knowledge is proven.
    pub(super) fn publish<'a>(
        shared: &mut Shared,
        topic: Topic,
        (kind, attempt): (SearchKind, u32),
        wanted: impl Iterator<Item = (ChunkId, &'a ChunkSecret)>,
    ) -> Self {
        let secret = shared.answer_secret();
        let (ephemeral, nonce) = (secret.public(), random(&mut shared.rng));
        let context = kind.context(shared.mesh, ephemeral, attempt, nonce);
        let wanted = wanted.map(|(id, of)| (id, prove(of, &id, &context, &mut shared.rng)));
        let wanted = wanted.collect();
        let request = SearchRequest { kind, ephemeral, attempt, nonce, wanted };
        let (tag, digest) = (AnswerTag::of(&ephemeral), request.digest());
        shared.publish(topic, TopicMessage::SearchRequest(request));
        Self { secret, tag, request: digest, opened: Opened::default() }
    }

    /// Whether this is an answer to it.
    pub(super) fn is_answered_by(&self, answer: &Answer) -> bool {
        self.tag == answer.tag
    }

    /// Opens an answer to it that came through `from`, within what is opened for one request: who
    /// offers, and which of the chunks, a bit for each in their order. What does not hold is
    /// counted.
    pub(super) fn take_offer(
        &mut self,
        shared: &mut Shared,
        from: NodeId,
        answer: &Answer,
    ) -> Option<(Contact, u32)> {
        let offer = self.opened.admit(from, &answer.sealed).and_then(|()| {
            let offer = self.open_offer(shared, answer);
            match &offer {
                Ok(_) => self.opened.note_good(from, &answer.sealed),
                Err(_) => self.opened.note_bad(from),
            }
            offer
        });
        offer.inspect_err(|reason| shared.reject(from, *reason)).ok()
    }

    fn open_offer(&self, shared: &Shared, answer: &Answer) -> Result<(Contact, u32), Reject> {
        let body = shared.open_answer(&self.secret, self.request, answer)?;
        let AnswerBody::Offer(offer) = body else { return Err(Reject::Unsolicited) };
        let contact = offer.contact.ok_or(Reject::Malformed)?;
        Ok((contact, offer.holds))
    }
}
