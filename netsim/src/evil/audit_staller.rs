//! Stores and serves honestly, and never answers an audit: it is silent, it is busy, or it works on
//! it without an end.

use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::{Effect, Input};
use quloud::core::message::{AccountAnswer, AccountAsk, AccountRefusal, Message, StreamMessage};
use quloud::core::types::NodeId;
use std::time::Duration;

/// How often it says that it works: a little more often than owners want to hear it.
const WORKING_EVERY: Duration = Duration::from_secs(25);

/// So often it says it: for longer than an hour.
const WORKING_TIMES: u32 = 150;

/// How it does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Silent,
    Busy,
    Working,
}

/// See the module.
pub(crate) struct AuditStaller(How);

impl AuditStaller {
    /// It says nothing.
    pub(crate) const fn silent() -> Self {
        Self(How::Silent)
    }

    /// It says that it is busy.
    pub(crate) const fn busy() -> Self {
        Self(How::Busy)
    }

    /// It says that it works on it.
    pub(crate) const fn working() -> Self {
        Self(How::Working)
    }

    fn stall(&self, env: &mut Env<'_>, to: NodeId, request: u64) {
        let refuse = |reason| {
            let outcome = Err(reason);
            StreamMessage::AccountAnswer(AccountAnswer { request, outcome })
        };
        env.acts += 1;
        match self.0 {
            How::Silent => {}
            How::Busy => {
                env.effects.push(Effect::Send { to, message: refuse(AccountRefusal::Busy) });
            }
            How::Working => {
                let message = refuse(AccountRefusal::Working);
                let times = (1..=WORKING_TIMES).map(|time| WORKING_EVERY * time);
                env.later.extend(times.map(|wait| (wait, to, message.clone())));
            }
        }
    }
}

impl Behaviour for AuditStaller {
    fn name(&self) -> &'static str {
        match self.0 {
            How::Silent => "never answers an audit",
            How::Busy => "is busy for ever",
            How::Working => "works for ever",
        }
    }

    fn input(&mut self, env: &mut Env<'_>, _: Role, input: Input) -> Option<Input> {
        let Input::Message {
            from,
            message: Message::Stream(StreamMessage::AccountRequest(asked)),
            ..
        } = &input
        else {
            return Some(input);
        };
        let AccountAsk::Audit { .. } = asked.ask else { return Some(input) };
        self.stall(env, *from, asked.request);
        None
    }
}
