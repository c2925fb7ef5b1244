//! Messages about how a holder stands: any legal one, the largest, and bad ones.

use super::rejects::{Change, each_change_is_rejected, fixed, long, short, stream};
use super::*;
use crate::proto::{self, stream_message::Body};

fn audit() -> impl Strategy<Value = AuditOutcome> {
    any::<[u64; 7]>().prop_map(|[at_s, asked, proven, missing, damaged, lied, released]| {
        AuditOutcome { at_s, asked, proven, missing, damaged, lied, released }
    })
}

fn report() -> impl Strategy<Value = StandingReport> {
    use Standing::{Damaged, Late, Liar, Lost, Proven, Suspect, Unknown};
    let standing =
        proptest::sample::select(vec![Unknown, Proven, Late, Suspect, Lost, Damaged, Liar]);
    let kind = prop_oneof![Just(SilenceKind::Unanswered), Just(SilenceKind::Withheld)];
    let silence = (kind, any::<(u64, u32)>())
        .prop_map(|(kind, (since_s, misses))| ReportedSilence { kind, since_s, misses });
    let incident = audit().prop_map(|of| AuditOutcome { damaged: of.damaged.max(1), ..of });
    let silence = proptest::option::of(silence);
    let last = proptest::option::of(audit());
    let incidents = vec(incident, 0..=STANDING_INCIDENTS_MAX);
    (standing, silence, any::<Option<u64>>(), last, incidents).prop_map(
        |(standing, silence, lied_s, last, incidents)| StandingReport {
            standing,
            silence,
            lied_s,
            last,
            incidents,
        },
    )
}

/// Any message that this file is about.
pub(super) fn message() -> impl Strategy<Value = StreamMessage> {
    let refusal = prop_oneof![Just(StandingRefusal::NoAccount), Just(StandingRefusal::Busy)];
    let said = (report(), any::<[u8; 32]>()).prop_map(|(report, mac)| StandingSaid { report, mac });
    prop_oneof![
        any::<(u64, [[u8; 32]; 3])>().prop_map(|(request, [account, nonce, mac])| {
            let account = Account::from_bytes(account);
            StreamMessage::StandingRequest(StandingRequest { request, account, nonce, mac })
        }),
        (any::<u64>(), prop_oneof![said.prop_map(Ok), refusal.prop_map(Err)]).prop_map(
            |(request, outcome)| {
                StreamMessage::StandingAnswer(StandingAnswer { request, outcome })
            }
        ),
    ]
}

#[test]
fn the_largest_report_comes_back_and_more_incidents_are_left_out() {
    let most = u64::MAX;
    let audit = AuditOutcome {
        at_s: most,
        asked: most,
        proven: most,
        missing: most,
        damaged: most,
        lied: most,
        released: most,
    };
    let kind = SilenceKind::Withheld;
    let report = StandingReport {
        standing: Standing::Liar,
        silence: Some(ReportedSilence { kind, since_s: most, misses: u32::MAX }),
        lied_s: Some(most),
        last: Some(audit),
        incidents: vec![audit; STANDING_INCIDENTS_MAX],
    };
    assert_eq!(report.encode().len(), 529);
    assert_eq!(StandingReport::decode(&report.encode()), Some(report.clone()));
    let incidents = vec![audit; STANDING_INCIDENTS_MAX + 1];
    let longer = StandingReport { incidents, ..report.clone() };
    assert_eq!(StandingReport::decode(&longer.encode()), Some(report));
}

#[test]
fn each_wrong_field_of_a_question_how_it_stands_is_rejected() {
    let good = proto::StandingRequest {
        request: 1,
        account: bytes_of(&[1; 32]),
        nonce: bytes_of(&[2; 32]),
        mac: bytes_of(&[3; 32]),
    };
    let lengths = fixed!(StandingRequest, account, nonce, mac);
    let decode = |m| stream(Body::StandingRequest(m), &[]);
    each_change_is_rejected(&good, &[&lengths], decode);
    let payload = stream(Body::StandingRequest(good), &[0]);
    assert_eq!(payload, Err(Reject::Malformed), "a payload");
}

/// An incident of which one chunk was damaged.
fn incident() -> AuditOutcome {
    AuditOutcome { at_s: 9, asked: 2, proven: 1, damaged: 1, ..AuditOutcome::default() }
}

fn bytes_after(before: &[u8], audits: usize) -> Bytes {
    let of = StandingReport { last: Some(incident()), ..StandingReport::default() };
    // What stands behind the four bytes that say what there is, without the number of incidents.
    let audit = of.encode()[4..60].to_vec();
    [before, &audit.repeat(audits)].concat().into()
}

#[test]
fn each_wrong_field_of_an_answer_how_it_stands_is_rejected() {
    let report = StandingReport {
        standing: Standing::Damaged,
        last: Some(incident()),
        incidents: vec![incident(); STANDING_INCIDENTS_MAX],
        ..StandingReport::default()
    };
    let good = proto::StandingAnswer {
        request: 1,
        report: report.encode().into(),
        mac: bytes_of(&[2; 32]),
        refusal: 0,
    };
    let changes: &[Change<proto::StandingAnswer>] = &[
        ("refused beside a report", |m| m.refusal = 1),
        ("refusal 3", |m| m.refusal = 3),
        ("no report", |m| m.report.clear()),
        ("cut", |m| m.report = m.report.slice(..m.report.len() - 1)),
        ("more than it says", |m| m.report = [m.report.as_ref(), &[0]].concat().into()),
        ("standing 7", |m| m.report = bytes_of(&[7, 0, 0, 0, 0])),
        ("silence 3", |m| m.report = bytes_of(&[[2, 3].as_slice(), &[1; 12], &[0; 3]].concat())),
        ("a silence that is not there", |m| m.report = bytes_of(&[2, 1, 0, 0, 0])),
        ("lied 2", |m| m.report = bytes_of(&[[1, 0, 2].as_slice(), &[1; 8], &[0; 2]].concat())),
        ("last 2", |m| m.report = [bytes_after(&[1, 0, 0, 2], 1).as_ref(), &[0]].concat().into()),
        ("nine incidents", |m| m.report = bytes_after(&[5, 0, 0, 0, 9], 9)),
        ("fewer incidents than it says", |m| m.report = bytes_after(&[5, 0, 0, 0, 2], 1)),
        ("an incident without a find", |m| {
            m.report = bytes_of(&[[5, 0, 0, 0, 1].as_slice(), &[0; 56]].concat());
        }),
    ];
    let lengths = fixed!(StandingAnswer, mac);
    let decode = |m| stream(Body::StandingAnswer(m), &[]);
    each_change_is_rejected(&good, &[changes, &lengths], decode);
    assert_eq!(stream(Body::StandingAnswer(good.clone()), &[0]), Err(Reject::Malformed));
    let found = proto::StandingAnswer { report: bytes_after(&[5, 0, 0, 0, 1], 1), ..good };
    assert_eq!(decode(found), Ok(()));
}

#[test]
fn a_refusal_to_say_how_it_stands_says_nothing_else() {
    let bare = |refusal| proto::StandingAnswer { request: 1, refusal, ..Default::default() };
    let decode = |m| stream(Body::StandingAnswer(m), &[]);
    assert_eq!((decode(bare(1)), decode(bare(2))), (Ok(()), Ok(())));
    let mac = proto::StandingAnswer { mac: bytes_of(&[0; 32]), ..bare(1) };
    for bad in [bare(3), bare(257), mac] {
        assert_eq!(decode(bad), Err(Reject::Malformed));
    }
}
