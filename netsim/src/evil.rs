//! Nodes that do not follow the protocol: the real roles, and something that stands between them
//! and the world. One behaviour per file.

mod flooder;
mod forger;
mod hostage;
mod keeper;
mod liar;
mod mute;
mod relayer;
mod replayer;
mod staller;
mod vandal;

use crate::node::Role;
use quloud::core::effect::{Effect, Input};
use quloud::core::types::NodeId;
use quloud::crypto::keys::NodeKeys;
use rand_chacha::ChaCha20Rng;

/// What a behaviour has at hand.
pub(crate) struct Env<'a> {
    pub(crate) rng: &'a mut ChaCha20Rng,
    /// The node's own keys.
    pub(crate) keys: &'a NodeKeys,
    /// Everybody it may know of, itself included.
    pub(crate) nodes: &'a [NodeId],
    /// How often it deviated.
    pub(crate) acts: u64,
    /// What it feeds to its own roles, beside what comes in.
    pub(crate) inputs: Vec<(Role, Input)>,
}

/// A way to deviate. The defaults follow the protocol.
pub(crate) trait Behaviour {
    /// As it is printed.
    fn name(&self) -> &'static str;

    /// What comes in; `None` where the roles do not hear of it.
    fn input(&mut self, env: &mut Env<'_>, role: Role, input: Input) -> Option<Input> {
        let _ = (env, role);
        Some(input)
    }

    /// What the roles want to do; returns what the node does instead.
    fn effect(&mut self, env: &mut Env<'_>, role: Role, effect: Effect) -> Vec<Effect> {
        let _ = (env, role);
        vec![effect]
    }

    /// What it does unasked, now and then.
    fn act(&mut self, env: &mut Env<'_>) -> Vec<Effect> {
        let _ = env;
        Vec::new()
    }

    /// Whether it forwards what others gossip.
    fn forwards(&self) -> bool {
        true
    }
}

/// Every behaviour, to draw from.
pub(crate) const ALL: &[fn() -> Box<dyn Behaviour>] = &[
    || Box::new(flooder::Flooder::default()),
    || Box::new(forger::Forger::default()),
    || Box::new(hostage::Hostage),
    || Box::new(keeper::Keeper),
    || Box::new(liar::Liar),
    || Box::new(mute::Mute),
    || Box::new(relayer::Relayer::default()),
    || Box::new(replayer::Replayer::default()),
    || Box::new(staller::Staller),
    || Box::new(vandal::Vandal),
];
