//! Says again, to anybody, what it once heard or said.

use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::{Effect, Input, Via};
use quloud::core::message::{Message, StreamMessage, TopicMessage};
use quloud::core::topic::TopicKind;
use rand::RngExt;
use std::collections::VecDeque;

/// What is remembered of each kind.
const KEPT: usize = 32;

/// How much is said again at a time.
const AGAIN: usize = 8;

#[derive(Default)]
pub(crate) struct Replayer {
    heard: VecDeque<StreamMessage>,
    gossip: VecDeque<TopicMessage>,
}

fn keep<T>(kept: &mut VecDeque<T>, one: T) {
    kept.push_back(one);
    if kept.len() > KEPT {
        kept.pop_front();
    }
}

impl Behaviour for Replayer {
    fn name(&self) -> &'static str {
        "replays what it heard"
    }

    fn input(&mut self, _: &mut Env<'_>, _: Role, input: Input) -> Option<Input> {
        match &input {
            Input::Message { via: Via::Stream, message: Message::Stream(message), .. } => {
                keep(&mut self.heard, message.clone());
            }
            Input::Message { message: Message::Topic(message), .. } => {
                keep(&mut self.gossip, message.clone());
            }
            _ => {}
        }
        Some(input)
    }

    fn effect(&mut self, _: &mut Env<'_>, _: Role, effect: Effect) -> Vec<Effect> {
        if let Effect::Send { message, .. } = &effect {
            keep(&mut self.heard, message.clone());
        }
        vec![effect]
    }

    fn act(&mut self, env: &mut Env<'_>) -> Vec<Effect> {
        let mut effects = Vec::new();
        for _ in 0..AGAIN {
            let to = env.nodes.get(env.rng.random_range(0..env.nodes.len()));
            let heard = self.heard.get(env.rng.random_range(0..KEPT)).cloned();
            if let (Some(to), Some(message)) = (to, heard) {
                effects.push(Effect::Send { to: *to, message });
            }
            if let Some(message) = self.gossip.get(env.rng.random_range(0..KEPT)).cloned() {
                let topic = match &message {
                    TopicMessage::StoreRequest(_) => env.some_topic(TopicKind::Store),
                    TopicMessage::SearchRequest(request) => {
                        env.some_topic(request.kind.topic_kind())
                    }
                    TopicMessage::Answer(answer) => env.answer_topic(&answer.tag),
                };
                effects.push(Effect::Publish { topic, message });
            }
        }
        env.acts += effects.len() as u64;
        effects
    }
}
