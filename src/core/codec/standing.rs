//! How a holder stands with an owner. The report is a fixed layout, because a MAC covers it.

use super::Reject;
use super::field::{array, bytes, ensure};
use crate::core::message::{
    StandingAnswer, StandingRefusal, StandingReport, StandingRequest, StandingSaid,
};
use crate::core::types::Account;
use crate::proto;

pub(super) fn encode_request(asked: &StandingRequest) -> proto::StandingRequest {
    proto::StandingRequest {
        request: asked.request,
        account: bytes(asked.account.as_bytes()),
        nonce: bytes(&asked.nonce),
        mac: bytes(&asked.mac),
    }
}

pub(super) fn decode_request(asked: proto::StandingRequest) -> Result<StandingRequest, Reject> {
    let (account, nonce) = (Account::from_bytes(array(&asked.account)?), array(&asked.nonce)?);
    Ok(StandingRequest { request: asked.request, account, nonce, mac: array(&asked.mac)? })
}

pub(super) fn encode_answer(answer: &StandingAnswer) -> proto::StandingAnswer {
    let request = answer.request;
    match &answer.outcome {
        Err(refusal) => {
            let refusal = *refusal as u32;
            proto::StandingAnswer { request, refusal, ..Default::default() }
        }
        Ok(said) => proto::StandingAnswer {
            request,
            report: said.report.encode().into(),
            mac: bytes(&said.mac),
            refusal: 0,
        },
    }
}

pub(super) fn decode_answer(answer: proto::StandingAnswer) -> Result<StandingAnswer, Reject> {
    let proto::StandingAnswer { request, refusal, .. } = answer;
    if refusal != 0 {
        // Nothing else is said, so that a refusal has one form.
        let bare = proto::StandingAnswer { request, refusal, ..Default::default() };
        ensure(answer == bare)?;
        return Ok(StandingAnswer { request, outcome: Err(refusal_of(refusal)?) });
    }
    let report = StandingReport::decode(&answer.report).ok_or(Reject::Malformed)?;
    let outcome = Ok(StandingSaid { report, mac: array(&answer.mac)? });
    Ok(StandingAnswer { request, outcome })
}

fn refusal_of(number: u32) -> Result<StandingRefusal, Reject> {
    match number {
        1 => Ok(StandingRefusal::NoAccount),
        2 => Ok(StandingRefusal::Busy),
        _ => Err(Reject::Malformed),
    }
}
