//! Acknowledges under several epochs: to each owner, and for the same chunk, it is another store.

use super::{Behaviour, Env};
use crate::node::{MESH, Role};
use quloud::core::effect::Effect;
use quloud::core::message::{StoreAck, StreamMessage};
use quloud::core::types::StoreEpoch;
use quloud::crypto::ack::AckStatement;
use rand::RngExt;

/// How many stores it says to be.
const STORES: u8 = 3;

/// Acks that are given again under another epoch.
const KEPT: usize = 16;

#[derive(Default)]
pub(crate) struct Equivocator {
    given: Vec<(quloud::core::types::NodeId, StoreAck)>,
}

impl Behaviour for Equivocator {
    fn name(&self) -> &'static str {
        "is another store each time"
    }

    fn effect(&mut self, env: &mut Env<'_>, _: Role, effect: Effect) -> Vec<Effect> {
        let Effect::Send { to, message: StreamMessage::StoreAck(ack) } = effect else {
            return vec![effect];
        };
        env.acts += 1;
        self.given.push((to, ack.clone()));
        let surplus = self.given.len().saturating_sub(KEPT);
        self.given.drain(..surplus);
        // Twice at once, now and then: the owner hears of two stores in one breath.
        let times = env.rng.random_range(1..=2);
        let again = (0..times).map(|_| StreamMessage::StoreAck(elsewhere(env, ack.clone())));
        again.map(|message| Effect::Send { to, message }).collect()
    }

    fn act(&mut self, env: &mut Env<'_>) -> Vec<Effect> {
        let given = std::mem::take(&mut self.given);
        env.acts += given.len() as u64;
        let again = given.into_iter().map(|(to, ack)| {
            let message = StreamMessage::StoreAck(elsewhere(env, ack));
            Effect::Send { to, message }
        });
        again.collect()
    }
}

/// The same ack of another store, with a signature that holds.
fn elsewhere(env: &mut Env<'_>, ack: StoreAck) -> StoreAck {
    let StoreAck { batch, account, terms, chunks, .. } = ack;
    let epoch = StoreEpoch::from_bytes([env.rng.random_range(1..=STORES); 16]);
    let statement = AckStatement { mesh: MESH, account, batch, epoch, terms, chunks };
    let signature = statement.sign(env.keys);
    let chunks = statement.chunks;
    StoreAck { batch, account, epoch, terms, chunks, signature }
}
