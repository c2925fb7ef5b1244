//! Hands the audits that it is asked for on to another holder, and that one's answers back.

use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::{Effect, Input};
use quloud::core::message::{AccountAsk, Message, StreamMessage};
use quloud::core::types::NodeId;
use std::collections::BTreeMap;

/// To how many each question is shown.
const SHOWN: usize = 3;

/// Questions that are open.
const KEPT: usize = 32;

#[derive(Default)]
pub(crate) struct GoBetween(BTreeMap<u64, NodeId>);

impl Behaviour for GoBetween {
    fn name(&self) -> &'static str {
        "lets others answer its audits"
    }

    fn input(&mut self, env: &mut Env<'_>, _: Role, input: Input) -> Option<Input> {
        let Input::Message { from, message: Message::Stream(message), .. } = &input else {
            return Some(input);
        };
        match message {
            StreamMessage::AccountRequest(asked)
                if matches!(asked.ask, AccountAsk::Audit { .. }) =>
            {
                // Two of a kind would hand one to and fro for ever.
                if self.0.len() < KEPT && !self.0.contains_key(&asked.request) {
                    self.0.insert(asked.request, *from);
                    let own = env.keys.node_id();
                    let others = env.nodes.iter().filter(|node| **node != own && *node != from);
                    let others: Vec<NodeId> = others.take(SHOWN).copied().collect();
                    env.acts += 1;
                    for to in others {
                        let message = StreamMessage::AccountRequest(asked.clone());
                        env.effects.push(Effect::Send { to, message });
                    }
                }
                None
            }
            StreamMessage::AccountAnswer(answer) => {
                let Some(to) = self.0.get(&answer.request).copied() else { return Some(input) };
                // That there is no such account is no answer to give back.
                if answer.outcome.is_ok() {
                    env.effects.push(Effect::Send { to, message: message.clone() });
                }
                None
            }
            _ => Some(input),
        }
    }
}
