//! Volunteers, takes what it is sent, and then says nothing.

use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::Effect;
use quloud::core::message::StreamMessage;

pub(crate) struct Staller;

impl Behaviour for Staller {
    fn name(&self) -> &'static str {
        "takes and stays silent"
    }

    fn effect(&mut self, env: &mut Env<'_>, _: Role, effect: Effect) -> Vec<Effect> {
        let silent = matches!(
            &effect,
            Effect::Send {
                message: StreamMessage::StoreAck(_)
                    | StreamMessage::StoreReject(_)
                    | StreamMessage::ChunkData(_)
                    | StreamMessage::RetrieveReject(_),
                ..
            }
        );
        if silent {
            env.acts += 1;
            return Vec::new();
        }
        vec![effect]
    }
}
